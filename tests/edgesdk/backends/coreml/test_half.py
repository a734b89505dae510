"""Rounding to float16 in float32 is numpy's own, bit by bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgesdk.backends.coreml.half import round_to_half


def expected(x):
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def test_every_float16_and_every_tie_between_two():
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2
    for x in (halves, ties, np.nextafter(ties, 0), np.nextafter(ties, np.float32(1e9)), -ties):
        np.testing.assert_array_equal(round_to_half(x), expected(x))


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)))
@settings(max_examples=200, deadline=None)
def test_any_numbers(x):
    np.testing.assert_array_equal(round_to_half(x), expected(x))


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (16384,), (3, 16385), (2, 0)])
def test_shapes_and_blocks(shape):
    x = np.asarray(np.random.default_rng(0).standard_normal(shape), np.float32)
    found = round_to_half(x)
    assert found.shape == shape
    np.testing.assert_array_equal(found, expected(x))


def test_views_are_not_written_to():
    x = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
    kept = x.copy()
    np.testing.assert_array_equal(round_to_half(x.T[::2]), expected(x.T[::2]))
    np.testing.assert_array_equal(x, kept)


def test_overflow_in_one_block_only():
    x = np.ones(40_000, np.float32) / 3
    x[20_000] = 70_000
    np.testing.assert_array_equal(round_to_half(x), expected(x))
