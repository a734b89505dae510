"""Blocks keep what the file says, bit for bit."""

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, block_type, stack_blocks

KIND = gguf.GGMLQuantizationType
SIZES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}  # bytes per block of 32


def open_tensors(path):
    return GgufTensors(path, read_gguf_header(path).tensors)


@pytest.fixture(params=sorted(SIZES))
def stored(request, tmp_path, write_gguf):
    """A matrix in blocks with everything that a file can hold: any integers, scales of any sign, zeros."""
    name, random = request.param, np.random.default_rng(3)
    raw = random.integers(0, 256, (6, 4 * SIZES[name]), np.uint8)
    blocks = raw.reshape(6, 4, -1)
    scales = random.standard_normal((6, 4)).astype("<f2")
    scales[1, 2] = 0
    scales[2, 3] = 6e-8  # subnormal
    blocks[:, :, :2] = scales[..., None].view(np.uint8)
    if name == "Q4_1":
        minimums = random.standard_normal((6, 4)).astype("<f2")
        blocks[:, :, 2:4] = minimums[..., None].view(np.uint8)
    path = write_gguf(tmp_path / "m.gguf", {"w": (raw, KIND[name])})
    return open_tensors(path), raw, KIND[name]


def test_blocks_stand_for_the_weight(stored):
    tensors, raw, kind = stored
    blocks = tensors.stored_blocks("w")
    assert block_type(tensors, "w") == blocks.kind == BLOCK_TYPES[kind.name]
    expected = dequantize(raw, kind)
    if kind == KIND.Q4_1:  # d u + m is summed in another order
        np.testing.assert_allclose(blocks.dequantise(), expected, rtol=0, atol=3e-6)
    else:
        np.testing.assert_array_equal(blocks.dequantise(), expected)
        assert blocks.minimums is None
    assert blocks.scales.shape == (6, 4)
    np.testing.assert_array_equal(blocks.scales, blocks.scales.astype(np.float16))


@pytest.mark.parametrize("positive", [False, True])
def test_parts_add_up_to_the_weight(stored, positive):
    blocks = stored[0].stored_blocks("w")
    bare, minimums = blocks.split(positive_scales=positive)
    total = bare.dequantise()
    if minimums is not None:
        total = total + np.repeat(minimums, 32, axis=1)
    np.testing.assert_allclose(total, blocks.dequantise(), rtol=0, atol=3e-6)
    assert bare.minimums is None
    if blocks.kind.bits == 4:
        assert bare.values.min() >= -8
        assert bare.values.max() <= 7
    if positive and blocks.kind.bits == 4:
        assert (bare.scales > 0).all()
        turned = blocks.scales < 0
        grouped = bare.values.reshape(6, 4, 32)
        np.testing.assert_array_equal(grouped[turned], ~blocks.values.reshape(6, 4, 32)[turned])
        np.testing.assert_array_equal(bare.scales[turned], -blocks.scales[turned])
    else:
        np.testing.assert_array_equal(bare.values, blocks.values)
        np.testing.assert_array_equal(bare.scales, blocks.scales)


def test_rows_can_be_picked_and_stacked(stored):
    blocks = stored[0].stored_blocks("w")
    rows = np.array([4, 0, 4])
    twice = stack_blocks([blocks.take_rows(rows), blocks])
    expected = blocks.dequantise()
    np.testing.assert_array_equal(twice.dequantise(), np.concatenate([expected[rows], expected]))


def test_blocks_of_different_kinds_cannot_be_stacked(tmp_path, write_gguf):
    data = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    kinds = (KIND.Q4_0, KIND.Q4_1)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {k.name: (quantize(data, k), k) for k in kinds}))
    with pytest.raises(ValueError, match="same kind"):
        stack_blocks([tensors.stored_blocks(k.name) for k in kinds])


@pytest.mark.parametrize("name", sorted(SIZES))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_no_number_is_refused(tmp_path, write_gguf, name, bad):
    raw = np.zeros((3, SIZES[name]), np.uint8)
    raw[2, :2] = np.frombuffer(np.float16(bad).tobytes(), np.uint8)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (raw, KIND[name])}))
    with pytest.raises(CheckpointError, match=r"'w' whose scale is not a finite number"):
        tensors.stored_blocks("w")


def test_a_minimum_that_is_no_number_is_refused(tmp_path, write_gguf):
    raw = np.zeros((1, 20), np.uint8)
    raw[0, 2:4] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)
    tensors = open_tensors(write_gguf(tmp_path / "m.gguf", {"w": (raw, KIND.Q4_1)}))
    with pytest.raises(CheckpointError, match="not a finite number"):
        tensors.stored_blocks("w")


def test_other_types_have_no_blocks(tmp_path, write_gguf):
    raw = np.zeros((2, 84), np.uint8)
    plain, three = np.zeros((2, 64), np.float32), np.zeros((2, 2, 64), np.float32)
    path = write_gguf(
        tmp_path / "m.gguf",
        {
            "k": (raw, KIND.Q2_K),
            "f": (plain, KIND.F32),
            "deep": (quantize(three, KIND.Q8_0), KIND.Q8_0),
        },
    )
    tensors = open_tensors(path)
    assert isinstance(tensors, BlockStore)
    assert not isinstance(plain, BlockStore)
    assert [block_type(tensors, name) for name in ("k", "f", "deep")] == [None] * 3
    with pytest.raises(CheckpointError, match="does not store 'k' in blocks"):
        tensors.stored_blocks("k")
