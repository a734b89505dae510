"""Float numbers that lie on a grid of 4 bits: the recipe `source` keeps it, as it keeps a GGUF file's."""

import shutil
import tracemalloc

import gguf
import numpy as np
import pytest
from ml_dtypes import bfloat16
from safetensors.numpy import load_file, save_file

from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import lattice_tensors
from edgesdk_converters.checkpoints.lattice_tensors import LatticeTensors
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint, open_local
from edgesdk_converters.checkpoints.open_huggingface import open_huggingface
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.stored_blocks import BlockType, block_type
from edgesdk_converters.convert import ConvertOptions, convert

Q4_0 = gguf.GGMLQuantizationType.Q4_0
OUT, DOWN, UP = (
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.0.mlp.up_proj.weight",
)


def q4_0(values):
    return gguf.quants.dequantize(gguf.quants.quantize(values, Q4_0), Q4_0)


def symmetric(values, group=64):
    blocks = values.reshape(len(values), -1, group)
    scales = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(7)
    return (np.rint(blocks / scales) * scales).reshape(values.shape)


def make(folder, tiny_folder, grid, dtype, chosen=lambda name: True):
    """A tiny llama whose chosen matrices lie on a grid, in floats of a type."""
    shutil.copytree(tiny_folder / "llama", folder)
    arrays = load_file(folder / "model.safetensors")
    for name, values in arrays.items():
        numbers = values.astype(np.float32)
        numbers = grid(numbers) if numbers.ndim == 2 and chosen(name) else numbers
        arrays[name] = numbers.astype(dtype)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    return folder


def records(bundle, target):
    found = next(v for v in open_bundle(bundle).manifest.variants if v.name.startswith(target))
    return found, {record.name: record for record in found.weights}


@pytest.mark.parametrize("dtype", [bfloat16, np.float16, np.float32])
def test_blocks_are_those_of_the_gguf_file(tmp_path, tiny_folder, gguf_from_tiny, dtype):
    floats = open_huggingface(make(tmp_path / "m", tiny_folder, q4_0, dtype)).tensors
    blocks = open_checkpoint(str(gguf_from_tiny(tmp_path / "m.gguf", "llama", kind_of=lambda name: Q4_0)))
    for name, stored in ((DOWN, "blk.0.ffn_down.weight"), ("model.embed_tokens.weight", "token_embd.weight")):
        found, expected = floats.stored_blocks(name), blocks.tensors.stored_blocks(stored)
        assert (found.kind.bits, found.kind.block, found.kind.half_scales) == (4, 32, True)
        np.testing.assert_array_equal(found.values, expected.values)
        if dtype is bfloat16:
            np.testing.assert_allclose(found.scales, expected.scales, rtol=2**-8)
        else:
            np.testing.assert_array_equal(found.scales, expected.scales)
        own = found.dequantise().astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(own, floats.load(name))


def test_a_conversion_says_what_it_found_and_stores_what_the_gguf_file_has(
    tmp_path, tiny_folder, gguf_from_tiny
):
    folder = make(tmp_path / "m", tiny_folder, q4_0, np.float16)
    file = gguf_from_tiny(tmp_path / "m.gguf", "llama", kind_of=lambda name: Q4_0)
    said = []
    options = ConvertOptions(targets=("litert", "onnx-step"), recipes=("source",), prove=False)
    for name, source in (("floats", folder), ("blocks", file)):
        convert(str(source), tmp_path / name, options, report=lambda progress: said.append(progress.what))
    notes = [line for line in said if "grid of 4 bits" in line]
    assert notes == [
        "note: 15 of 15 matrices seem to lie on a grid of 4 bits (15 in groups of 32), as after "
        "quantisation-aware training: the recipe source keeps those that do"
    ]
    for target in ("litert", "onnx-step"):
        (one, found), (other, _) = (records(tmp_path / name, target) for name in ("floats", "blocks"))
        assert one.numbers == other.numbers
        kept = {record.kept for name, record in found.items() if ".layers." in f".{name}"}
        assert kept <= {"exact", "float"}
        assert found["layers.0.down"].stored_type == "F16"
        assert (found["layers.0.down"].bits, found["layers.0.down"].block) == (4, 32)


def test_symmetric_grids_need_no_minimums(tmp_path, tiny_folder):
    """LiteRT's kernels want scales above zero; where those are, no product of minimums is made."""
    folder = make(
        tmp_path / "m",
        tiny_folder,
        symmetric,
        np.float32,
        lambda name: "_proj" in name and "down" not in name,
    )
    assert open_huggingface(folder).tensors.block_type(OUT) == BlockType("F32", 4, 64, False, False, True)
    options = ConvertOptions(targets=("litert",), recipes=("source",), prove=False)
    convert(str(folder), tmp_path / "out", options)
    found = records(tmp_path / "out", "litert")[1]
    assert (found["layers.0.o"].bits, found["layers.0.o"].block) == (4, 64)
    assert 0 < found["layers.0.o"].relative_error < 1e-3  # scales of 32 bits, rounded to 16
    assert not [name for name in found if name.endswith(".minimums")]


def test_a_matrix_off_its_grid_stays_what_it_was(tmp_path, tiny_folder):
    folder = make(tmp_path / "m", tiny_folder, q4_0, bfloat16, lambda name: "mlp" in name)
    arrays = load_file(folder / "model.safetensors")
    arrays[UP][-1, -1] = bfloat16(0.33) * np.abs(arrays[UP][-1]).max()  # which no sample sees
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    checkpoint = open_huggingface(folder)
    assert "6 of 15 matrices seem to lie" in checkpoint.notes[0]
    assert checkpoint.tensors.block_type(DOWN) is not None
    assert checkpoint.tensors.block_type(UP) is None
    assert checkpoint.tensors.block_type("model.embed_tokens.weight") is None
    with pytest.raises(CheckpointError, match=r"does not store .*up_proj.* in blocks"):
        checkpoint.tensors.stored_blocks(UP)
    convert(
        str(folder),
        tmp_path / "out",
        ConvertOptions(targets=("litert",), recipes=("source",), prove=False),
    )
    found = records(tmp_path / "out", "litert")[1]
    assert found["layers.0.down"].kept == "exact"
    assert found["layers.0.q_k_v"].kept == "quantised"


def test_a_sample_that_fits_larger_groups_is_no_proof(tmp_path, tiny_folder):
    folder = make(tmp_path / "m", tiny_folder, symmetric, np.float32, lambda name: name == OUT)
    arrays = load_file(folder / "model.safetensors")
    arrays[OUT][-1, :32] = symmetric(np.linspace(-1, 1, 32, dtype=np.float32)[None], 32)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    tensors = open_huggingface(folder).tensors
    assert tensors.block_type(OUT).block == 32
    np.testing.assert_array_equal(tensors.stored_blocks(OUT).dequantise(), arrays[OUT])


def test_plain_checkpoints_have_no_note_and_no_blocks(tiny_folder):
    checkpoint = open_checkpoint(str(tiny_folder / "qwen3"))
    assert not [note for note in checkpoint.notes if "grid" in note]
    assert not [name for name in checkpoint.tensors if checkpoint.tensors.block_type(name)]
    with pytest.raises(CheckpointError, match="does not store"):
        checkpoint.tensors.stored_blocks("model.norm.weight")


def test_a_look_at_a_matrix_keeps_its_scales_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lattice_tensors, "_AT_ONCE", 1 << 12)
    weights = np.random.default_rng(0).standard_normal((8192, 256), np.float32)
    save_file({"w": q4_0(weights)}, tmp_path / "model.safetensors")
    tensors = LatticeTensors(SafetensorsTensors([tmp_path / "model.safetensors"]))
    tracemalloc.start()
    try:
        assert tensors.block_type("w").block == 32
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < weights.size  # bytes


def test_numbers_that_are_not_finite_are_refused_only_where_they_are_read(tmp_path, tiny_folder):
    folder, unused = tmp_path / "m", "model.layers.0.self_attn.rotary_emb.inv_freq"
    shutil.copytree(tiny_folder / "llama", folder)
    arrays = load_file(folder / "model.safetensors")
    arrays[unused] = np.full((4, 32), np.inf, np.float32)
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    checkpoint = open_huggingface(folder)
    assert checkpoint.tensors.block_type(unused) is None
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.tensors.load(unused)
    options = ConvertOptions(targets=("onnx-step",), recipes=("f32",), prove=False)
    convert(str(folder), tmp_path / "out", options)


def test_an_estimate_reads_no_numbers_so_it_sees_no_grid(tmp_path, tiny_folder):
    folder = make(tmp_path / "m", tiny_folder, q4_0, np.float16)
    assert block_type(open_local(str(folder)).tensors, DOWN) is None
    assert block_type(open_checkpoint(str(folder)).tensors, DOWN) is not None
