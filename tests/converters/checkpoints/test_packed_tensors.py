"""AWQ, GPTQ and MLX checkpoints: packed here by hand, word by word, and read back exactly."""

import json
import shutil

import numpy as np
import pytest
from ml_dtypes import bfloat16  # lets numpy hold what the tiny checkpoints store
from safetensors.numpy import load_file, save_file

from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.quantise.block_kernels import LITERT_BLOCKS, ONNX_BLOCKS
from edgesdk_converters.quantise.peak_activations import peak_activations
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.keep_blocks import keep_blocks

GROUP = 32
UP = "model.layers.0.mlp.up_proj"
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ's: the column that lies in each place of a word


def group(weight, rng, symmetric, size=GROUP):
    """Integers (O, I), zeros and scales (O, G) of a matrix (O, I), float16 scales."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // size, size)
    scales = (np.abs(blocks).max(axis=2) / 7).astype(np.float16)
    zeros = np.full(scales.shape, 8) if symmetric else rng.integers(5, 12, scales.shape)
    integers = np.rint(blocks / scales.astype(np.float32)[..., None]) + zeros[..., None]
    return np.clip(integers, 0, 15).astype(np.uint32).reshape(rows, columns), zeros, scales


def meaning(integers, zeros, scales):
    spread = [np.repeat(part.astype(np.float32), GROUP, axis=1) for part in (zeros, scales)]
    return (integers - spread[0]) * spread[1]


def words(integers, order=range(8)):
    """Eight integers of a row in a word: (N, M) to (N, M / 8)."""
    packed = np.zeros((integers.shape[0], integers.shape[1] // 8), np.uint32)
    for place, column in enumerate(order):
        packed |= integers[:, column::8].astype(np.uint32) << np.uint32(4 * place)
    return packed


def signed(packed):
    return np.ascontiguousarray(packed).view(np.int32)


def gptq(stem, integers, zeros, scales, less=1):
    of_column = np.repeat(np.arange(scales.shape[1]), integers.shape[1] // scales.shape[1])
    return {
        f"{stem}.qweight": signed(words(integers).T),
        f"{stem}.qzeros": signed(words((zeros.T - less).astype(np.uint32) % 16)),
        f"{stem}.scales": np.ascontiguousarray(scales.T),
        f"{stem}.g_idx": of_column.astype(np.int32),
    }


def awq(stem, integers, zeros, scales):
    return {
        f"{stem}.qweight": signed(words(integers.T, ORDER)),
        f"{stem}.qzeros": signed(words(zeros.T.astype(np.uint32), ORDER)),
        f"{stem}.scales": np.ascontiguousarray(scales.T),
    }


def mlx(stem, integers, zeros, scales):
    biases = -(zeros * scales.astype(np.float32))
    return {
        f"{stem}.weight": words(integers),
        f"{stem}.scales": scales,
        f"{stem}.biases": biases.astype(np.float16),
    }


SETTINGS = {
    "gptq": (gptq, {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": GROUP}}),
    "gptq_v2": (
        lambda *parts: gptq(*parts, less=0),
        {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": GROUP,
                                 "checkpoint_format": "gptq_v2"}},
    ),
    "awq": (
        awq,
        {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "GEMM"}},
    ),
    "mlx": (mlx, {"quantization": {"bits": 4, "group_size": GROUP, "mode": "affine"}}),
}  # fmt: skip


def make(folder, tiny_folder, method, symmetric=False):
    """A tiny llama whose projections are packed; the matrices that it means, by name."""
    shutil.copytree(tiny_folder / "llama", folder)
    pack, settings = SETTINGS[method]
    arrays, meant, rng = load_file(folder / "model.safetensors"), {}, np.random.default_rng(3)
    assert next(iter(arrays.values())).dtype == bfloat16
    for name in [name for name in arrays if name.endswith("_proj.weight")]:
        stem = name.removesuffix(".weight")
        integers, zeros, scales = group(arrays.pop(name).astype(np.float32), rng, symmetric)
        parts = pack(stem, integers, zeros, scales)
        arrays |= parts
        if method == "mlx":
            biases = np.repeat(parts[f"{stem}.biases"].astype(np.float32), GROUP, axis=1)
            meant[name] = integers * np.repeat(scales.astype(np.float32), GROUP, axis=1) + biases
        else:
            meant[name] = meaning(integers, zeros, scales)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return meant


def program_of(folder):
    checkpoint = open_huggingface(folder)
    spec = read_spec(checkpoint.config)
    return checkpoint, Program(spec, build_decoder(spec), weights_for(checkpoint, spec))


@pytest.mark.parametrize("method", sorted(SETTINGS))
@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_and_scales_mean_what_they_did(tmp_path, tiny_folder, method, symmetric):
    meant = make(tmp_path / "m", tiny_folder, method, symmetric)
    tensors = open_huggingface(tmp_path / "m").tensors
    assert meant.keys() <= set(tensors)
    assert not [name for name in tensors if "qzeros" in name or "scales" in name]
    for name, expected in meant.items():
        tolerance = 1e-6 * np.abs(expected).max() if method == "mlx" else 0
        np.testing.assert_allclose(tensors.load(name), expected, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(tensors.load_rows(name, 3, 9), tensors.load(name)[3:9])
        parts = [tensors.load_rows(name, start, start + 8) for start in range(0, len(expected), 8)]
        np.testing.assert_array_equal(np.concatenate(parts), tensors.load(name))
        kind = tensors.block_type(name)
        assert (kind.bits, kind.block) == (4, GROUP)
        assert kind.minimums == (method == "mlx" or not symmetric)
        assert kind.positive_scales == (not kind.minimums)
        assert LITERT_BLOCKS.needs_minimums(kind) == kind.minimums
        np.testing.assert_array_equal(tensors.stored_blocks(name).dequantise(), tensors.load(name))
    assert tensors.block_type("model.embed_tokens.weight") is None


@pytest.mark.parametrize("method", ["gptq", "awq", "mlx"])
def test_the_recipe_source_keeps_every_group(tmp_path, tiny_folder, method):
    make(tmp_path / "m", tiny_folder, method)
    checkpoint, program = program_of(tmp_path / "m")
    tokens = np.arange(5, 25, dtype=np.int32)
    expected = next(sequence_logits(program, [tokens]))
    for kernels in (LITERT_BLOCKS, ONNX_BLOCKS):
        peaks = peak_activations(program, [tokens])
        kept, recipe = keep_blocks(program, find_recipe("source"), kernels, peaks)
        schemes = [rule.scheme for rule in recipe.rules if rule.scheme is not None]
        assert sum(scheme.algorithm == "stored" for scheme in schemes) == 8
        found = next(sequence_logits(kept, [tokens]))
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        quantised = QuantisedWeights(kept.weights, recipe).quantised("layers.1.down")
        stored = checkpoint.tensors.stored_blocks("model.layers.1.mlp.down_proj.weight")
        bare, _ = stored.split(positive_scales=kernels.positive_scales)
        np.testing.assert_array_equal(quantised.values, bare.values)
        np.testing.assert_array_equal(quantised.scales, bare.scales)


@pytest.mark.parametrize(("method", "size"), [("gptq", 128), ("awq", 64)])
def test_wide_groups_reach_both_runtimes(tmp_path, tiny_folder, method, size):
    folder = shutil.copytree(tiny_folder / "llama", tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    pack, settings = SETTINGS[method]
    settings = {"quantization_config": {**settings["quantization_config"], "group_size": size}}
    config |= {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, **settings}
    (folder / "config.json").write_text(json.dumps(config))
    rng, arrays = np.random.default_rng(7), {}
    for name, old in load_file(folder / "model.safetensors").items():
        wide = [{64: 128, 32: 64, 96: 256}.get(length, length) for length in old.shape]
        weight = rng.standard_normal(wide).astype(np.float32) * 0.1
        if name.endswith("_proj.weight"):
            arrays |= pack(name.removesuffix(".weight"), *group(weight, rng, False, size))
        else:
            arrays[name] = (1 + weight if "norm" in name else weight * 5).astype(np.float16)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    options = ConvertOptions(("litert", "onnx"), ("source",), context=64, allow_parity_miss=True)
    manifest = open_bundle(convert(str(folder), tmp_path / "out", options)).manifest
    for variant in manifest.variants:
        kept = [record for record in variant.weights if record.bits == 4]
        assert len(kept) == 8
        assert {record.block for record in kept} == {size}
        assert variant.parity.kl_nats < 0.05


def test_groups_in_order_of_activation_are_read_as_numbers(tmp_path, tiny_folder):
    meant = make(tmp_path / "m", tiny_folder, "gptq")
    arrays = load_file(tmp_path / "m" / "model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    order = np.random.default_rng(0).permutation(64)
    columns = (np.arange(64) // GROUP).astype(np.int32)[order]
    arrays[f"{name}.g_idx"] = columns
    save_file(arrays, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    tensors = open_huggingface(tmp_path / "m").tensors
    assert tensors.block_type(f"{name}.weight") is None
    weight, scales = tensors.load(f"{name}.weight"), arrays[f"{name}.scales"].astype(np.float32).T
    plain = meant[f"{name}.weight"] / np.repeat(scales, GROUP, axis=1)  # integers less their first zeros
    shifted = weight / scales[:, columns]
    same = columns == np.arange(64) // GROUP
    np.testing.assert_allclose(shifted[:, same], plain[:, same], atol=1e-4)
    assert not np.allclose(shifted[:, ~same], plain[:, ~same])
    with pytest.raises(CheckpointError, match="not store"):
        tensors.stored_blocks(f"{name}.weight")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop(f"{UP}.qzeros"), "qzeros' is missing"),
        (
            lambda a: a.update({f"{UP}.scales": np.ones((3, 96), np.float16)}),
            "do not fit",
        ),
        (lambda a: a.update({f"{UP}.g_idx": np.ones(3, np.int32)}), "do not fit"),
        (lambda a: a.update({f"{UP}.g_idx": np.full(64, 9, np.int32)}), "do not fit"),
        (
            lambda a: a.update({f"{UP}.qweight": np.ones((0, 96), np.int32)}),
            "do not fit",
        ),
        (lambda a: a.update({f"{UP}.qweight": np.ones((8, 96), np.int16)}), "I32"),
        (lambda a: a[f"{UP}.scales"].fill(np.nan), "not finite"),
    ],
    ids=range(7),
)
def test_parts_that_do_not_fit_are_named(tmp_path, tiny_folder, change, match):
    make(tmp_path / "m", tiny_folder, "gptq")
    arrays = {n: a.copy() for n, a in load_file(tmp_path / "m" / "model.safetensors").items()}
    change(arrays)
    save_file(arrays, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=match) as caught:
        open_huggingface(tmp_path / "m").tensors.load(f"{UP}.weight")
    assert "\n" not in str(caught.value)
