"""Drafts as files: what is written is read back, and what no draft can be is refused in one line."""

import json

import numpy as np
import pytest
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from edgesdk.bundle.manifest import TokenizerRecord
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    read_draft,
    tokenizer_digest,
    write_draft,
)
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles

E, F, V = 8, 12, 40
TARGET = DraftTarget("llama", V, E, "0" * 64, "tiny")


def draft(layers=2):
    random = np.random.default_rng(layers)
    config = DraftConfig(E, F, layers, 3, 1e-5, TARGET)
    tensors = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in config.shapes.items()
    }
    return DraftCheckpoint(config, tensors, np.arange(3, V, 4, dtype=np.int32))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("numbers", ["float32", "float16"])
def test_what_is_written_is_read_back(tmp_path, layers, numbers):
    written = draft(layers)
    for _ in range(2):  # once into a new folder, once over what is there
        write_draft(tmp_path / "a" / "b", written, {"seed": 1, "losses": [2.0]}, numbers=numbers)
    found = read_draft(tmp_path / "a" / "b")
    assert found.config == written.config
    assert np.array_equal(found.vocabulary, written.vocabulary)
    assert found.tensors.keys() == written.tensors.keys() == written.config.shapes.keys()
    for name, value in found.tensors.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, written.tensors[name].astype(numbers).astype(np.float32))
    assert json.loads((tmp_path / "a" / "b" / "training.json").read_text()) == {"seed": 1, "losses": [2.0]}
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {"config.json", "model.safetensors", "training.json"}


def test_bfloat16_is_read(tmp_path):
    written = draft()
    write_draft(tmp_path, written)
    tensors = {name: value.astype(bfloat16) for name, value in written.tensors.items()}
    save_file({**tensors, "vocabulary": written.vocabulary}, tmp_path / "model.safetensors")
    for name, value in read_draft(tmp_path).tensors.items():
        assert np.array_equal(value, tensors[name].astype(np.float32))


def test_the_shapes_are_those_of_the_form():
    assert draft(2).config.shapes == {
        "norm_s.weight": (E,),
        "norm_e.weight": (E,),
        "norm_o.weight": (E,),
        "layers.0.gate.weight": (F, 2 * E),
        "layers.0.up.weight": (F, 2 * E),
        "layers.0.down.weight": (E, F),
        "layers.1.norm.weight": (E,),
        "layers.1.gate.weight": (F, E),
        "layers.1.up.weight": (F, E),
        "layers.1.down.weight": (E, F),
    }


def change_config(folder, change):
    path = folder / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c.update(speed=9), "unknown key 'speed'"),
        (lambda c: c.pop("width"), "lacks the key 'width'"),
        (lambda c: c.update(version=2), "version is 2"),
        (lambda c: c.update(form="blocks"), "form is 'blocks'"),
        (lambda c: c.update(format="edgesdk"), "format is 'edgesdk'"),
        (lambda c: c.update(hidden_size=16), "its target's 8"),
        (lambda c: c.update(width=1 << 40), "width is 1099511627776"),
        (lambda c: c.update(layers=0), "layers is 0"),
        (lambda c: c.update(layers=17), "layers is 17"),
        (lambda c: c.update(depth=0), "depth is 0"),
        (lambda c: c.update(norm_eps=-1.0), "norm_eps is -1.0"),
        (lambda c: c.update(norm_eps=float("nan")), "norm_eps is nan"),
        (lambda c: c.update(width="12"), "width is str"),
        (lambda c: c["target"].update(vocab_size=0), "vocab_size is 0"),
        (lambda c: c.update(width=16), r"has the shape \(12, 16\), its configuration says \(16, 16\)"),
        (lambda c: c.update(layers=3), "has no tensor 'layers.2.down.weight'"),
        (lambda c: c.update(layers=1), "has an unknown tensor 'layers.1.down.weight'"),
        (lambda c: c["target"].update(vocab_size=39), "no list of rising token ids from 0 to 38"),
    ],
)
def test_a_configuration_that_no_draft_has_is_refused(tmp_path, change, found):
    write_draft(tmp_path, draft())
    change_config(tmp_path, change)
    with pytest.raises(CheckpointError, match=found) as error:
        read_draft(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda t: t.pop("norm_e.weight"), "has no tensor 'norm_e.weight'"),
        (lambda t: t.update(bias=np.zeros(2, np.float32)), "has an unknown tensor 'bias'"),
        (lambda t: t.pop("vocabulary"), "found none"),
        (lambda t: t.update(vocabulary=np.zeros((2, 2), np.int32)), r"found shape \(2, 2\)"),
        (lambda t: t.update(vocabulary=np.arange(4.0)), "is of type F64, expected I32 or U32"),
        (lambda t: t.update(vocabulary=np.array([3, 3, 4], np.int32)), "no list of rising"),
        (lambda t: t.update(vocabulary=np.array([-1, 3], np.int32)), "no list of rising"),
        (lambda t: t.update(vocabulary=np.array([3, V], np.int32)), "no list of rising"),
        (lambda t: t.update(vocabulary=np.zeros(0, np.int32)), "no list of rising"),
        (lambda t: t["norm_s.weight"].__setitem__(2, np.nan), "not finite, the first is NaN"),
        (lambda t: t.update({"norm_s.weight": np.ones(E, np.int8)}), "of type I8, expected one of F32"),
        (lambda t: t.update({"norm_s.weight": np.ones((E, 1), np.float32)}), r"has the shape \(8, 1\)"),
    ],
)
def test_tensors_that_no_draft_has_are_refused(tmp_path, change, found):
    write_draft(tmp_path, draft())
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=found) as error:
        read_draft(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_a_truncated_file_is_refused(tmp_path, file, share):
    write_draft(tmp_path, draft())
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError) as error:
        read_draft(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_refused(tmp_path, file):
    write_draft(tmp_path, draft())
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_draft(tmp_path)


def test_numbers_beyond_their_form_are_refused_and_what_stands_stays(tmp_path):
    write_draft(tmp_path, draft())
    large = draft()
    large.tensors["norm_s.weight"][0] = 1e6
    with pytest.raises(CheckpointError, match="beyond float16"):
        write_draft(tmp_path, large, numbers="float16")
    assert read_draft(tmp_path).tensors["norm_s.weight"][0] != 1e6
    with pytest.raises(UnsupportedOption, match="expected float32, float16"):
        write_draft(tmp_path, draft(), numbers="int8")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_draft(tmp_path / "file", draft())


def test_tokenizers_are_told_apart_by_their_file():
    record = TokenizerRecord(0, (1,), False)
    one, other = (TokenizerFiles(text, None, record) for text in ('{"a": "ä"}', '{"a": "b"}'))
    assert tokenizer_digest(one) == tokenizer_digest(one) != tokenizer_digest(other)
    assert len(tokenizer_digest(one)) == 64
