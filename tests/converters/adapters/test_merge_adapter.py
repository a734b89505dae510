"""Merged adapters against PEFT's own forward; every file of an adapter with every file of its model."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.adapters.adapter import AdapterRequest, parse_adapter
from edgesdk_converters.adapters.merge_adapter import merge_adapters
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.reshape import Reshaping
from tests.converters.adapters.conftest import (
    ADAPTERS,
    ATTENTION,
    NAMES,
    TINY,
    base_of,
    random_tensors,
    reference,
)
from tests.data.tiny_gguf import KINDS, to_gguf, write_gguf, write_tiny_gguf

TOLERANCE = 1e-4  # of the largest logit; float32 against float64


def merged(base, *adapters, scale=1.0):
    requests = [AdapterRequest(adapter, scale) for adapter in adapters]
    return merge_adapters(open_checkpoint(str(base)), requests)[0]


def logits_of(checkpoint, sequences):
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    return list(sequence_logits(program, sequences))


def assert_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("name", NAMES)
def test_merged_is_what_peft_computes(name):
    sequences, expected = reference(name)
    assert_close(logits_of(merged(base_of(name), ADAPTERS / name), sequences), expected)


@pytest.mark.parametrize("name", ["llama-patterns", "gemma-norms", "rslora-bias", "phi3-fused", "qwen3-dora"])
def test_an_adapter_of_peft_goes_with_a_gguf_file(name, tmp_path):
    base = write_tiny_gguf(tmp_path / "base.gguf", base_of(name).rsplit("/", 1)[-1])
    sequences, expected = reference(name)
    assert_close(logits_of(merged(base, ADAPTERS / name), sequences), expected)


def as_gguf(folder, out, config, alpha):
    """A LoRA as llama.cpp's converter writes it: rows of B in the order of the matrix that it changes."""
    sides = {"a": {}, "b": {}}
    for name, values in load_file(folder / "adapter_model.safetensors").items():
        module, _, ending = name.removeprefix("base_model.model.").partition(".lora_")
        sides["b" if ending[0] == "B" else "a"][f"{module}.weight"] = values
    tensors = {}
    for name, b in to_gguf(config, sides["b"]).items():
        tensors[f"{name}.lora_b"] = np.ascontiguousarray(b), KINDS.F32
    plain = {**config, "model_type": "qwen3"}  # columns keep their order
    for name, a in to_gguf(plain, sides["a"]).items():
        tensors[f"{name}.lora_a"] = a, KINDS.F32

    def fill(writer):
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)

    return write_gguf(out, tensors, fill)


@pytest.mark.parametrize("base_in_gguf", [False, True])
def test_an_adapter_in_gguf_is_the_same(base_in_gguf, tmp_path, write_adapter):
    folder = write_adapter()
    config = json.loads((TINY / "llama" / "config.json").read_text())
    file = as_gguf(folder, tmp_path / "lora.gguf", config, 6.0)
    base = write_tiny_gguf(tmp_path / "base.gguf", "llama") if base_in_gguf else TINY / "llama"
    sequences, _ = reference("llama-patterns")
    assert_close(
        logits_of(merged(base, file), sequences), logits_of(merged(TINY / "llama", folder), sequences)
    )


def test_a_gguf_adapter_of_the_table_is_turned(tmp_path):
    random = np.random.default_rng(1)
    a, b = random.standard_normal((288, 4)), random.standard_normal((64, 4))

    def fill(writer):
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")

    tensors = {
        f"token_embd.weight.lora_{side}": (values.astype(np.float32), KINDS.F32)
        for side, values in (("a", a), ("b", b))
    }
    changed = merged(TINY / "llama", write_gguf(tmp_path / "x.gguf", tensors, fill))
    table = "model.embed_tokens.weight"
    before = open_checkpoint(str(TINY / "llama")).tensors.load(table)
    np.testing.assert_allclose(changed.tensors.load(table), before + a @ b.T, atol=1e-5)
    np.testing.assert_array_equal(changed.tensors.load("lm_head.weight"), before)
    assert not read_spec(changed.config).tied_head
    assert "untied" in changed.notes[-1]


def test_scales_add_up(write_adapter):
    sequences, _ = reference("llama-patterns")
    folder = write_adapter()
    once = logits_of(merged(TINY / "llama", folder), sequences)
    halves = merge_adapters(
        open_checkpoint(str(TINY / "llama")), [AdapterRequest(folder, 0.25), AdapterRequest(folder, 0.75)]
    )
    assert_close(logits_of(halves[0], sequences), once)
    assert [record.settings["scale"] for record in halves[1]] == [0.25, 0.75]
    gone = merge_adapters(
        open_checkpoint(str(TINY / "llama")), [AdapterRequest(folder), AdapterRequest(folder, -1.0)]
    )
    assert_close(logits_of(gone[0], sequences), logits_of(open_checkpoint(str(TINY / "llama")), sequences))


def test_rows_are_those_of_the_whole():
    checkpoint = merged(base_of("qwen3-dora"), ADAPTERS / "qwen3-dora")
    name = "model.layers.1.self_attn.q_proj.weight"
    whole = checkpoint.tensors.load(name)
    np.testing.assert_allclose(checkpoint.tensors.load_rows(name, 5, 37), whole[5:37], rtol=1e-6)
    assert checkpoint.tensors.stored_type(name) == "BF16+F32"


def refused(base, adapter, scale=1.0, error=CheckpointError):
    with pytest.raises(error) as raised:
        merged(base, adapter, scale=scale)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 2500
    return text


def test_all_that_does_not_fit_is_said_at_once(write_adapter):
    text = refused(TINY / "gemma3", write_adapter())  # which has a third layer
    assert (
        "adapter does not belong to gemma3: model.layers.*.self_attn.q_proj.weight is to be changed" in text
    )
    tensors = random_tensors(
        {**ATTENTION, "model.layers.0.self_attn.q_proj": (64, 48), "model.layers.0.mlp.fc1": (8, 8)}
    )
    text = refused(TINY / "llama", write_adapter(tensors, target_modules=["q_proj", "v_proj", "o_proj"]))
    assert "model.layers.*.self_attn.q_proj.weight is (64, 48), expected (64, 64)" in text
    assert "the model has no model.layers.*.mlp.fc1.weight" in text
    assert "model.layers.*.self_attn.o_proj.weight is to be changed and is missing (2 layers)" in text


def test_what_replaces_has_no_scale():
    text = refused(base_of("tied-both"), ADAPTERS / "tied-both", 0.5, UnsupportedOption)
    assert "the scale 0.5, but it replaces lm_head.weight, model.embed_tokens.weight" in text
    assert "leave the scale out" in refused(
        base_of("qwen3-dora"), ADAPTERS / "qwen3-dora", 2.0, UnsupportedOption
    )


def test_numbers_that_are_not_finite_are_refused(write_adapter):
    tensors = random_tensors(ATTENTION)
    next(iter(tensors.values()))[0, 0] = np.nan
    assert "not finite, the first is NaN" in refused(TINY / "llama", write_adapter(tensors))


@pytest.mark.parametrize(("alpha", "scale"), [(6, 1e300), (1e308, 1.0), (1e308, 1e308)])
def test_scales_that_leave_no_finite_number_are_refused(write_adapter, alpha, scale):
    tensors = merged(TINY / "llama", write_adapter(lora_alpha=alpha), scale=scale).tensors
    for read in (tensors.load, lambda name: tensors.load_rows(name, 3, 5)):
        with pytest.raises(CheckpointError, match="not finite once the adapter is merged; its scale is too"):
            read("model.layers.0.self_attn.q_proj.weight")


@pytest.mark.parametrize(("text", "scale"), [("", 1.0), (":0.5", 0.5), (":-1", -1.0), (":1e-3", 1e-3)])
def test_a_scale_stands_behind_a_colon(write_adapter, text, scale):
    folder = write_adapter()
    assert parse_adapter(f"{folder}{text}") == AdapterRequest(folder, scale)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nowhere", "'nowhere', which is neither a folder nor a file"),
        ("nowhere:half", "'nowhere:half', which is neither"),
        (".:0", "the scale 0; expected a number other than 0"),
        (".:nan", "the scale nan; expected"),
        (".:0.5:2", "'.:0.5', which is neither"),
        ("", "'', which is neither"),
        ("a\0b", "which is neither"),
    ],
)
def test_bad_wishes(text, expected):
    with pytest.raises(UnsupportedOption) as raised:
        parse_adapter(text)
    assert expected in str(raised.value)


def test_convert_merges_first(tmp_path):
    name = "llama-patterns"
    options = ConvertOptions(
        targets=("litert",),
        recipes=("f32",),
        context=64,
        merge_adapters=(str(ADAPTERS / name),),
        reshaping=Reshaping(skip_layers="1.mlp"),
    )
    bundle = convert(base_of(name), tmp_path / "out", options)
    (variant,) = open_bundle(bundle).manifest.variants
    assert variant.parity is not None
    assert variant.parity.perplexity_ratio < 1.001
    assert [record.name for record in variant.transforms[:2]] == ["merge_adapter", "skip_layers"]
    assert variant.transforms[0].settings["adapter"] == name


@pytest.mark.parametrize("recipe", ["source", "w8-round"])
def test_blocks_of_a_changed_matrix_are_not_kept(recipe, tmp_path, write_adapter):
    base = write_tiny_gguf(tmp_path / "base.gguf", "llama", kind_of=lambda name: KINDS.Q8_0)
    options = ConvertOptions(
        targets=("litert",),
        recipes=(recipe,),
        context=64,
        merge_adapters=(str(write_adapter()),),
        allow_parity_miss=True,
    )
    manifest = open_bundle(convert(str(base), tmp_path / "out", options)).manifest
    records = {record.name: record for record in manifest.variants[0].weights}
    kinds = {
        record.kept for name, record in records.items() if record.stored_type and "+F32" in record.stored_type
    }
    assert kinds
    assert "exact" not in kinds
