"""A rotation in two small products: orthogonal, flat, and what its matrix says, whatever the size."""

import numpy as np
import pytest

from edgesdk_converters.transforms.flat_rotation import FlatRotation

SIZES = (1, 2, 3, 7, 12, 64, 90, 576, 896, 960, 1000)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_orthogonal_and_spreads_every_channel(size):
    matrix = FlatRotation(size, 1).matrix()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    assert np.abs(matrix).max() <= 2**0.5 / size**0.5 + 1e-12
    if size & (size - 1) == 0:
        np.testing.assert_allclose(np.abs(matrix), size**-0.5)


@pytest.mark.parametrize("size", SIZES)
def test_turning_is_the_product_with_its_matrix(size):
    rotation = FlatRotation(size, 2)
    values = np.random.default_rng(0).standard_normal((2, 5, size)).astype(np.float32)
    expected = values.astype(np.float64) @ rotation.matrix()
    np.testing.assert_allclose(rotation.turn(values), expected, atol=2e-6)
    np.testing.assert_allclose(rotation.turn(values[0, 0]), expected[0, 0], atol=2e-6)
    across = np.ascontiguousarray(values[0].T)
    np.testing.assert_allclose(rotation.turn_back(across), expected[0].T, atol=2e-6)
    np.testing.assert_allclose(rotation.turn_back(values[0, 0]), expected[0, 0], atol=2e-6)


def test_rows_are_the_same_alone_and_in_large_pieces():
    rotation, values = FlatRotation(576, 3), np.random.default_rng(1).standard_normal((4000, 576))
    whole = rotation.turn(values.astype(np.float32))
    some = rotation.turn(values[1000:1003].astype(np.float32))
    np.testing.assert_allclose(some, whole[1000:1003], atol=1e-6)


def test_signs_are_the_seeds():
    first, same, other = (FlatRotation(64, seed).matrix() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
