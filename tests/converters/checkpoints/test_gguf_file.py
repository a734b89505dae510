"""Tensors of every type that the gguf package can dequantise."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

KIND = gguf.GGMLQuantizationType
PLAIN = {
    KIND.F32: np.float32,
    KIND.F16: np.float16,
    KIND.F64: np.float64,
    KIND.I8: np.int8,
    KIND.I16: np.int16,
    KIND.I32: np.int32,
    KIND.I64: np.int64,
}


def open_tensors(path):
    return GgufTensors(path, read_gguf_header(path).tensors)


def dequantisable():
    """Types the gguf package can dequantise, with random blocks."""
    found = []
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        if kind in PLAIN:
            continue
        raw = np.random.default_rng(int(kind)).integers(0, 100, (6, 512 // block * size), np.uint8)
        try:
            dequantize(raw, kind)
        except NotImplementedError:
            continue
        found.append((kind, raw))
    return found


def test_the_types_that_published_files_use_are_among_them():
    names = {kind.name for kind, _ in dequantisable()}
    assert {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"} <= names
    assert {"BF16", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ3_S", "TQ1_0", "MXFP4"} <= names


@pytest.mark.parametrize(("kind", "raw"), [pytest.param(k, r, id=k.name) for k, r in dequantisable()])
def test_every_type_that_can_be_dequantised_is(tmp_path, write_gguf, kind, raw):
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (raw, kind)}))
    expected = dequantize(raw, kind).astype(np.float32)
    assert tensors.stored_type("w") == kind.name
    assert tensors.shape("w") == expected.shape == (6, 512)
    loaded = tensors.load("w")
    assert loaded.dtype == np.float32
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, expected)
    np.testing.assert_array_equal(tensors.load_rows("w", 2, 5), expected[2:5])
    assert tensors.load_rows("w", 3, 3).shape == (0, 512)


@pytest.mark.parametrize("kind", [KIND.Q4_0, KIND.Q4_1, KIND.Q8_0, KIND.BF16], ids=lambda k: k.name)
def test_quantised_values_come_back_close_to_what_they_were(tmp_path, write_gguf, kind):
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (quantize(weight, kind), kind)}))
    assert np.abs(tensors.load("w") - weight).max() < 0.25


@pytest.mark.parametrize("kind", PLAIN, ids=lambda k: k.name)
def test_plain_types(tmp_path, write_gguf, kind):
    data = np.arange(24).reshape(4, 6).astype(PLAIN[kind])
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (data, kind), "v": (data[0], kind)}))
    np.testing.assert_array_equal(tensors.load("w"), data.astype(np.float32))
    np.testing.assert_array_equal(tensors.load_rows("v", 1, 3), data[0, 1:3].astype(np.float32))


def test_tensors_of_more_than_two_axes(tmp_path, write_gguf):
    data = np.arange(5 * 3 * 64, dtype=np.float32).reshape(5, 3, 64)
    kind = KIND.Q8_0
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (quantize(data, kind), kind)}))
    assert tensors.shape("w") == (5, 3, 64)
    np.testing.assert_array_equal(tensors.load_rows("w", 1, 4), tensors.load("w")[1:4])


def test_a_type_without_dequantisation_is_named(tmp_path, write_gguf):
    known = {kind for kind, _ in dequantisable()}
    rest = [kind for kind in gguf.GGML_QUANT_SIZES if kind not in PLAIN and kind not in known]
    assert rest, "the gguf package dequantises all it knows: this test needs another type"
    block, size = gguf.GGML_QUANT_SIZES[rest[0]]
    raw = np.zeros((1, 512 // block * size), np.uint8)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (raw, rest[0])}))
    with pytest.raises(CheckpointError, match=rest[0].name):
        tensors.load("w")


def test_what_is_not_there_is_named(tmp_path, write_gguf):
    data = np.zeros((4, 32), np.float32)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (data, KIND.F32)}))
    assert "nothing" not in tensors
    with pytest.raises(CheckpointError, match="no tensor 'nothing'"):
        tensors.load("nothing")
    for start, stop in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(CheckpointError, match="outside its 4"):
            tensors.load_rows("w", start, stop)


@pytest.mark.parametrize("kind", [KIND.F32, KIND.F16, KIND.Q8_0, KIND.Q4_1, KIND.Q6_K, KIND.BF16])
def test_numbers_that_are_not_finite_are_refused_by_their_tensor(tmp_path, write_gguf, kind):
    values = np.ones((4, 512), np.float32)
    if kind in PLAIN:
        raw = values.astype(PLAIN[kind])
        raw[2, 7] = np.nan
    else:
        raw = quantize(values, kind) if kind != KIND.Q6_K else np.zeros((4, 2 * 210), np.uint8)
        bits = 0x7FC0 if kind == KIND.BF16 else 0x7E00
        place = 208 if kind == KIND.Q6_K else 0  # its scale comes last
        raw[2, place : place + 2] = np.array([bits], "<u2").view(np.uint8)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"blk.0.w": (raw, kind)}))
    assert np.isfinite(tensors.load_rows("blk.0.w", 0, 2)).all()
    for read in (lambda: tensors.load("blk.0.w"), lambda: tensors.load_rows("blk.0.w", 1, 3)):
        with pytest.raises(CheckpointError, match=r"m\.gguf has \d+ of \d+ numbers in 'blk\.0\.w'"):
            read()
