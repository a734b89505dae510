"""Names, shapes and row orders of both naming conventions."""

import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgesdk.errors import CheckpointError, TransformError
from edgesdk_converters.architectures.combine import AddOne, Copy, PairHalves, SliceRows
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.weights import tensor_names
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import find_recipe
from tests.data.tiny_gguf import TINY, permute, to_gguf


def refused(tiny, config=None, arrays=None, dialect="huggingface"):
    """The message with which a checkpoint is refused; nothing of it may have been read."""
    checkpoint = tiny.checkpoint(config, arrays, dialect)
    with pytest.raises(CheckpointError) as caught:
        weights_for(checkpoint, read_spec(checkpoint.config))
    assert checkpoint.tensors.read == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_gguf_and_huggingface_files_give_the_same_weights(any_tiny_in_gguf):
    tiny = any_tiny_in_gguf
    ours = tiny.program().weights
    checkpoint = tiny.checkpoint(arrays=to_gguf(tiny.config, tiny.arrays), dialect="gguf")
    theirs = tiny.program(checkpoint).weights
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours.load(name), theirs.load(name))


def test_gguf_weights_give_the_reference_logits(tiny):
    llama = tiny("llama-untied-bias")
    checkpoint = llama.checkpoint(arrays=to_gguf(llama.config, llama.arrays), dialect="gguf")
    for found, expected in zip(
        sequence_logits(llama.program(checkpoint), llama.sequences), llama.logits, strict=True
    ):
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_weights_are_those_of_the_graph_and_nothing_is_read_before_it_is_asked_for(any_tiny):
    checkpoint = any_tiny.checkpoint()
    spec = read_spec(checkpoint.config)
    weights = weights_for(checkpoint, spec)
    assert checkpoint.tensors.read == []
    assert {v.name: v.shape for v in build_decoder(spec).weights} == {n: weights.shape(n) for n in weights}
    for name in weights:
        value = weights.load(name)
        assert (value.shape, value.dtype) == (weights.shape(name), np.float32)


def test_an_architecture_that_llama_cpp_does_not_know(tiny):
    assert "gguf files of helium are not known" in refused(tiny("helium"), dialect="gguf")


def test_rows_are_those_of_the_whole(any_tiny):
    check_rows(any_tiny.checkpoint())


def test_rows_are_those_of_the_whole_in_gguf(any_tiny_in_gguf):
    tiny = any_tiny_in_gguf
    check_rows(tiny.checkpoint(arrays=to_gguf(tiny.config, tiny.arrays), dialect="gguf"))


def check_rows(checkpoint):
    weights = weights_for(checkpoint, read_spec(checkpoint.config))
    for name in weights:
        whole, count = weights.load(name), weights.shape(name)[0]
        for start, stop in ((0, 1), (3, 11), (count - 5, count)):
            np.testing.assert_array_equal(weights.load_rows(name, start, stop), whole[start:stop])


def test_rows_outside_and_unknown_names_are_refused(tiny):
    weights = weights_for(tiny("llama").checkpoint(), tiny("llama").program().spec)
    for start, stop in ((-1, 3), (0, 289), (4, 4)):
        with pytest.raises(TransformError, match="rows"):
            weights.load_rows("embed", start, stop)
    with pytest.raises(TransformError, match=r"layers\.9\.q"):
        weights.load("layers.9.q")


def test_combines_say_which_row_feeds_which(tiny):
    phi3 = weights_for(tiny("phi3").checkpoint(), tiny("phi3").program().spec)
    assert phi3.source("layers.0.k").combine == SliceRows(64, 128)
    assert phi3.source("layers.1.up").combine == SliceRows(96, 192)
    assert phi3.source("layers.1.down").combine == Copy()
    gemma = weights_for(tiny("gemma3").checkpoint(), tiny("gemma3").program().spec)
    assert gemma.source("layers.2.q_norm").combine == AddOne()
    assert PairHalves(2).source_rows(8).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert SliceRows(2, 9).source_rows(3).tolist() == [2, 3, 4]
    rows = PairHalves(3).source_rows(48)
    np.testing.assert_array_equal(permute(np.arange(48), 3)[rows], np.arange(48))


def test_missing_tensor(tiny):
    llama = tiny("llama")
    arrays = {n: a for n, a in llama.arrays.items() if n != "model.layers.1.mlp.up_proj.weight"}
    message = refused(llama, arrays=arrays)
    assert "'model.layers.1.mlp.up_proj.weight' is missing" in message
    assert "(96, 64)" in message


@pytest.mark.parametrize("stored", ["I8", "U8", "I32"])
def test_integers_are_no_weights(tmp_path, stored):
    """Beside floating point ones, and without scales."""
    folder = shutil.copytree(TINY / "llama", tmp_path / "llama")
    file, name = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    arrays = load_file(file)
    whole = {"I8": np.int8, "U8": np.uint8, "I32": np.int32}[stored]
    assert {array.dtype for array in arrays.values()} == {np.dtype(ml_dtypes.bfloat16)}
    save_file({**arrays, name: np.ones(arrays[name].shape, whole)}, file)
    checkpoint = open_checkpoint(str(folder))
    with pytest.raises(CheckpointError) as caught:
        weights_for(checkpoint, read_spec(checkpoint.config))
    assert f"{name!r} is of type {stored}, expected floating point numbers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_shape(tiny):
    llama = tiny("llama")
    name = "model.layers.0.self_attn.k_proj.weight"
    message = refused(llama, arrays={**llama.arrays, name: llama.arrays[name].T.copy()})
    assert repr(name) in message
    assert "(64, 32)" in message
    assert "(32, 64)" in message


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("llama", "model.layers.0.self_attn.q_proj.bias"),  # a bias that the configuration denies
        ("llama", "model.layers.2.input_layernorm.weight"),  # a layer too many
        ("qwen2", "model.layers.0.self_attn.q_norm.weight"),
        ("phi3", "model.layers.0.self_attn.q_proj.weight"),
    ],
)
def test_unexpected_tensor(tiny, checkpoint, name):
    extra = {name: np.zeros(64, np.float32)}
    assert repr(name) in refused(tiny(checkpoint), arrays={**tiny(checkpoint).arrays, **extra})


def test_old_rotary_buffers_are_knowingly_unused(tiny):
    llama = tiny("llama")
    extra = {"model.layers.1.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)}
    checkpoint = llama.checkpoint(arrays={**llama.arrays, **extra})
    weights_for(checkpoint, read_spec(checkpoint.config))


def test_rotary_factors_of_gguf_belong_to_llama3_scaling(tiny):
    extra = {"rope_freqs.weight": np.ones(8, np.float32)}
    for name, known in (("llama:rope-llama3", True), ("llama", False)):
        llama = tiny(name)
        arrays = {**to_gguf(llama.config, llama.arrays), **extra}
        if known:
            checkpoint = llama.checkpoint(arrays=arrays, dialect="gguf")
            weights_for(checkpoint, read_spec(checkpoint.config))
        else:
            assert "'rope_freqs.weight'" in refused(llama, arrays=arrays, dialect="gguf")


def test_a_stored_head_of_a_tied_model_must_be_the_embedding_table(tiny):
    llama = tiny("llama")
    head = llama.arrays["model.embed_tokens.weight"].copy()
    checkpoint = llama.checkpoint(arrays={**llama.arrays, "lm_head.weight": head})
    weights_for(checkpoint, read_spec(checkpoint.config))
    head[-1, -1] += 1
    for other in (head, head[:-1]):
        checkpoint = llama.checkpoint(arrays={**llama.arrays, "lm_head.weight": other})
        with pytest.raises(CheckpointError, match=r"'lm_head\.weight' differs"):
            weights_for(checkpoint, read_spec(checkpoint.config))


@pytest.mark.parametrize(
    ("dialect", "embed", "head"),
    [
        ("huggingface", "model.embed_tokens.weight", "lm_head.weight"),
        ("gguf", "token_embd.weight", "output.weight"),
    ],
)
def test_the_table_of_a_tied_model_may_have_its_other_name(tiny, dialect, embed, head):
    llama = tiny("llama")
    arrays = to_gguf(llama.config, llama.arrays) if dialect == "gguf" else dict(llama.arrays)
    arrays[head] = arrays.pop(embed)
    checkpoint = llama.checkpoint(arrays=arrays, dialect=dialect)
    for tokens, expected in zip(llama.sequences, llama.logits, strict=True):
        (logits,) = sequence_logits(llama.program(checkpoint), [tokens])
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    both = refused(
        llama, config={**llama.config, "tie_word_embeddings": False}, arrays=arrays, dialect=dialect
    )
    assert f"{embed!r} is missing" in both
    arrays[embed] = arrays.pop(head)
    message = refused(
        llama, config={**llama.config, "tie_word_embeddings": False}, arrays=arrays, dialect=dialect
    )
    assert f"{head!r} is missing" in message
    assert "set tie_word_embeddings to true" in message


def test_a_spec_of_an_unknown_architecture(tiny):
    import dataclasses

    llama = tiny("llama")
    spec = dataclasses.replace(llama.program().spec, architecture="rwkv")
    with pytest.raises(CheckpointError, match="'rwkv' is not known; known are llama, "):
        weights_for(llama.checkpoint(), spec)


def test_weights_know_their_tensors_through_every_transform(tiny):
    llama = tiny("llama")
    program = llama.program()
    assert tensor_names(program.weights, "layers.1.up") == ("model.layers.1.mlp.up_proj.weight",)
    prepared = prepare(program, find_recipe("f16"))
    assert tensor_names(prepared.weights, "layers.1.gate_up") == (
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    )
    assert tensor_names(prepared.weights, "nothing") == ()
