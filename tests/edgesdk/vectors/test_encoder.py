"""A sentence encoder in ONNX: vectors are what its states and its pooling say, whoever shares a run."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import helper

import edgesdk
from edgesdk.errors import BundleError, DeviceError, EdgeError
from edgesdk.vectors.encoder import is_encoder, open_encoder
from tests.data.small_encoder import WIDTH, WORDS, write_encoder

UNK, CLS, SEP = 1, 2, 3


def ids(text):
    return [CLS, *(WORDS.index(word) if word in WORDS else UNK for word in text.lower().split()), SEP]


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_pooled_states_of_length_1(tmp_path, pooling):
    table = write_encoder(tmp_path / "e", pooling=pooling)
    texts = ["The tram costs", "boiler", "", "a tram to Lisbon", "xylophone"]
    with open_encoder(tmp_path / "e", threads=1) as encoder:
        found = encoder.embed(texts)
        question = encoder.embed_question("a tram to Lisbon")
    assert found.dtype == np.float32
    assert found.shape == (5, encoder.width) == (5, WIDTH)
    for text, vector in zip(texts, found, strict=True):
        states = table[ids(text)]
        assert vector == pytest.approx(unit(states.mean(0) if pooling == "mean" else states[0]), abs=1e-6)
    assert question == pytest.approx(found[3], abs=1e-6)


def test_company_changes_nothing(tmp_path):
    write_encoder(tmp_path / "e")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS[4:], random.integers(1, 12))) for _ in range(50)]
    with open_encoder(tmp_path / "e", threads=1) as encoder:
        together = encoder.embed(texts)
        alone = np.concatenate([encoder.embed([text]) for text in texts])
        assert encoder.embed([]).shape == (0, WIDTH)
    assert together == pytest.approx(alone, abs=1e-6)


def test_a_long_text_is_cut_and_keeps_its_end(tmp_path):
    table = write_encoder(tmp_path / "e", most=5)
    with open_encoder(tmp_path / "e") as encoder:
        (vector,) = encoder.embed(["the tram costs the boiler was repaired"])
    kept = [*ids("the tram costs the")[:-1][:4], SEP]
    assert vector == pytest.approx(unit(table[kept].mean(0)), abs=1e-6)


def test_it_ranks_an_index(tmp_path, made_encoder):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "one.txt").write_text("The tram was a boiler of Lisbon")
    (folder / "two.txt").write_text("Tram to Lisbon")
    with open_encoder(made_encoder("e")) as encoder:
        with edgesdk.make_index(tmp_path / "i", embedder=encoder) as index:
            index.add([folder])
            best = index.search("tram to Lisbon")[0]
        assert (best.path.name, best.score) == ("two.txt", pytest.approx(1.0, abs=2e-3))
        other = edgesdk.open_encoder(made_encoder("other", seed=1))
        with pytest.raises(EdgeError, match="the model given is other"):
            edgesdk.open_index(tmp_path / "i", embedder=other)
        other.close()
    with pytest.raises(DeviceError, match="closed"):
        encoder.embed(["a"])


def resaved(folder, change):
    path = folder / "onnx" / "model.onnx"
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


def test_what_is_no_encoder_is_one_line(tmp_path, made_encoder):
    def refused(folder, match, error=BundleError):
        with pytest.raises(error, match=match) as caught:
            open_encoder(folder)
        assert "\n" not in str(caught.value)

    assert not is_encoder(tmp_path)
    refused(tmp_path, "get the model with its ONNX file")
    whole = made_encoder("whole")
    assert is_encoder(whole)
    cases = {
        "1_Pooling/config.json": [
            ("{", "not valid JSON; get the model again"),
            ("[]", "no JSON object"),
            (json.dumps({"pooling_mode_max_tokens": True}), "expected mean or cls"),
            (json.dumps({"pooling_mode": "lasttoken"}), "pools by .*'lasttoken'.* expected mean or cls"),
            (json.dumps({"pooling_mode": ["mean", "cls"]}), "'mean', 'cls'.* expected mean or cls"),
            (json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}), "mean or cls"),
        ],
        "sentence_bert_config.json": [
            (json.dumps({"max_seq_length": 10**9}), "expected 3 to 8192"),
            (json.dumps({}), "max_seq_length"),
            (json.dumps({"max_seq_length": 64, "do_lower_case": True}), "do_lower_case, which is not known"),
        ],
        "tokenizer.json": [("{}", "is not a tokenizer")],
        "onnx/model.onnx": [("not a model", "damaged|has the field"), ("", "cannot be read|damaged")],
    }
    for name, contents in cases.items():
        kept = (whole / name).read_bytes()
        for content, match in contents:
            (whole / name).write_text(content)
            refused(whole, match)
        (whole / name).unlink()
        refused(whole, "not there|get the model")
        if hasattr(os, "mkfifo"):  # nobody writes into it, and nobody waits
            os.mkfifo(whole / name)
            refused(whole, "no plain file|get the model")
            (whole / name).unlink()
        (whole / name).write_bytes(kept)
    open_encoder(whole).close()


def test_modules_that_make_other_vectors_are_refused(made_encoder):
    folder = made_encoder("modules")
    path = folder / "modules.json"
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    listed = [
        {"path": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in kinds.items()
    ]
    for sound in (listed, listed[:2]):
        path.write_text(json.dumps(sound))
        open_encoder(folder).close()
    dense = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    for odd in ([*listed[:2], dense], [*listed[:2], dense, listed[2]], listed[:1], [], {}, 1, ["x", "y"]):
        path.write_text(json.dumps(odd))
        with pytest.raises(BundleError, match="expected Transformer, Pooling and perhaps Normalize") as error:
            open_encoder(folder)
        assert "\n" not in str(error.value)


def test_a_model_that_is_not_as_expected_is_refused(made_encoder):
    def refused(name, change, match):
        folder = made_encoder(name)
        resaved(folder, change)
        with pytest.raises(EdgeError, match=match) as caught:
            open_encoder(folder)
        assert "\n" not in str(caught.value)

    def branch(model):
        node = model.graph.node[0]
        body = helper.make_graph([node], "b", [], [model.graph.output[0]])
        node.attribute.append(helper.make_attribute("then_branch", body))

    def other_input(model):
        model.graph.input[0].name = model.graph.node[0].input[1] = "pixels"

    def flat(model):
        del model.graph.output[0].type.tensor_type.shape.dim[1]

    def wide(model):
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 1 << 40

    def ids(model):
        model.graph.node.append(helper.make_node("Cast", ["last_hidden_state"], ["whole"], to=7))
        model.graph.output[0].name = "whole"
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64

    def outside(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../secret")

    def operator(model):
        model.graph.node[0].op_type = "Loop"

    refused("subgraph", branch, "has the field 6 in an attribute")
    refused("input", other_input, r"has the inputs .*pixels")
    refused("flat", flat, r"expected states|cannot load")
    refused("wide", wide, "expected states|cannot load")
    refused("ids", ids, r"as tensor\(int64\), expected states")
    refused("outside", outside, "secret")
    refused("operator", operator, "has the operator 'Loop'")
    folder = made_encoder("bytes")
    path = folder / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"tokens", b"to\xfdens"))
    with pytest.raises(EdgeError, match="cannot say what the encoder takes"):
        open_encoder(folder)


def test_constants_of_exporters_are_read_for_encoders_alone(made_encoder):
    from edgesdk.backends.check_onnx_file import check_onnx_file

    def constant(model):
        value = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "zeros")
        model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=value))

    folder = made_encoder("e")
    resaved(folder, constant)
    open_encoder(folder).close()
    path = folder / "onnx" / "model.onnx"
    with pytest.raises(BundleError, match=r"'Constant'|tensor as an attribute"):
        check_onnx_file(path, {})

    def short(model):
        model.graph.node[-1].attribute[0].t.raw_data = b"\0"

    resaved(folder, short)
    with pytest.raises(BundleError, match="has 1 bytes for the tensor"):
        check_onnx_file(path, {}, encoder=True)
