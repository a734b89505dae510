"""Grids of 4 bits: found where numbers lie on one, to the last bit of their type, and nowhere else."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16

from edgesdk_converters.checkpoints.float_lattice import FLOAT_TYPES, find_lattice
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES, decode_blocks
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest

TYPES = {"BF16": bfloat16, "F16": np.float16, "F32": np.float32}
Q4_0 = gguf.GGMLQuantizationType.Q4_0


def rounded(values, kind):
    return values.astype(np.float32).astype(TYPES[kind]).astype(np.float32)


def meant(lattice, kind):
    return rounded(lattice.values * lattice.scales[:, None], kind)


def some_weights(rows=64, columns=256, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) * 0.02


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_what_q4_0_meant_is_found_again(kind):
    raw = gguf.quants.quantize(some_weights(), Q4_0)
    blocks = decode_blocks(raw, BLOCK_TYPES["Q4_0"])
    numbers = rounded(gguf.quants.dequantize(raw, Q4_0), kind).reshape(-1, 32)
    found = find_lattice(numbers, kind, lowest_first=True)
    np.testing.assert_array_equal(found.values, blocks.values.reshape(-1, 32))
    assert found.half_scales
    assert found.lowest
    assert not found.positive_scales
    np.testing.assert_array_equal(meant(found, kind), numbers)
    if kind == "BF16":  # whose 8 bits leave room for more than one scale
        np.testing.assert_allclose(found.scales, blocks.scales.ravel(), rtol=2**-8)
    else:
        np.testing.assert_array_equal(found.scales, blocks.scales.ravel())


@pytest.mark.parametrize("kind", FLOAT_TYPES)
@pytest.mark.parametrize("group", [32, 128, 256])
def test_symmetric_groups_have_positive_scales(kind, group):
    """A grid of -7 to 7, with scales of 32 bits; of whole rows, too, which are groups of any size."""
    weights = some_weights().reshape(-1, group)
    scales = np.abs(weights).max(axis=1, keepdims=True) / np.float32(7)
    numbers = rounded(np.rint(weights / scales) * scales, kind)
    for block in {32, group}:
        found = find_lattice(numbers.reshape(-1, block), kind, lowest_first=False)
        assert found.positive_scales
        np.testing.assert_array_equal(meant(found, kind), numbers.reshape(-1, block))
    np.testing.assert_array_equal(found.values, np.rint(weights / scales).reshape(found.values.shape))


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_other_numbers_lie_on_none(kind):
    assert find_lattice(rounded(some_weights(), kind).reshape(-1, 32), kind, lowest_first=True) is None
    for bits in (5, 8):
        groups = some_weights().reshape(-1, 32)
        scales = np.abs(groups).max(axis=1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
        assert find_lattice(rounded(np.rint(groups / scales) * scales, kind), kind, lowest_first=True) is None


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_one_number_that_is_next_to_its_place_is_enough(kind):
    numbers = rounded(gguf.quants.dequantize(gguf.quants.quantize(some_weights(), Q4_0), Q4_0), kind)
    groups = numbers.reshape(-1, 32)
    place = np.argmax(np.abs(groups[5]) > 0)
    groups[5, place] = np.nextafter(groups[5, place].astype(TYPES[kind]), TYPES[kind](1)).astype(np.float32)
    groups[5, place] = np.nextafter(groups[5, place].astype(TYPES[kind]), TYPES[kind](1)).astype(np.float32)
    assert find_lattice(groups, kind, lowest_first=True) is None


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_zeros_and_both_lowest(kind):
    zeros = find_lattice(np.zeros((2, 32), np.float32), kind, lowest_first=True)
    assert zeros.positive_scales
    assert not zeros.values.any()
    both = np.zeros((1, 32), np.float32)
    both[0, :3] = [8, -8, 7]
    assert find_lattice(both, kind, lowest_first=True) is None
    both[0, 1] = 1
    found = find_lattice(both, kind, lowest_first=False)
    assert found.scales[0] == -1
    assert found.values[0, 0] == -8


@pytest.mark.parametrize("kind", FLOAT_TYPES)
def test_rounding_finds_the_integers_of_8_bits_with_a_scale_per_row(kind):
    """Which is why nobody looks for them."""
    weights = some_weights()
    scales = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    integers = np.rint(weights / scales)
    made = round_to_nearest(rounded(integers * scales, kind), Scheme(8, None, "round"))
    if kind == "BF16":  # its 8 bits are a step of the largest integers, so some are the next
        assert np.abs(made.values - integers).max() <= 1
        assert (made.values != integers).mean() < 0.02
    else:
        np.testing.assert_array_equal(made.values, integers)


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(FLOAT_TYPES),
    integers=st.lists(st.integers(-8, 7), min_size=32, max_size=32),
    scale=st.floats(2**-23, 2**10, width=32),
    negative=st.booleans(),
    first=st.booleans(),
)
def test_every_grid_is_found_and_means_the_numbers(kind, integers, scale, negative, first):
    scale = np.float32(-scale if negative else scale)
    numbers = rounded(np.array([integers], np.float32) * scale, kind)
    found = find_lattice(numbers, kind, lowest_first=first)
    assert found is not None
    assert found.values.min() >= -8
    assert found.values.max() <= 7
    np.testing.assert_array_equal(meant(found, kind), numbers)


@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(FLOAT_TYPES),
    numbers=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4),
    first=st.booleans(),
)
def test_whatever_is_found_means_the_numbers(kind, numbers, first):
    with np.errstate(over="ignore"):
        given_numbers = rounded(np.array([numbers], np.float32), kind)
    given_numbers[~np.isfinite(given_numbers)] = 0
    found = find_lattice(given_numbers, kind, lowest_first=first)
    if found is not None:
        np.testing.assert_array_equal(meant(found, kind), given_numbers)
