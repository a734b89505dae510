"""Gram matrices and their factors: what GPTQ takes for granted of them."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.gram_factor import (
    damped,
    factor_losses,
    gram_matrix,
    largest_first,
    lower_factor,
    mean_diagonal,
    row_losses,
    within,
)

SIZES = [1, 64, 512, 1300]
"""One panel and several, the last of them cut."""


def texts(columns):
    random = np.random.default_rng(columns)
    sizes = np.exp(random.standard_normal(columns)).astype(np.float32)
    return [random.standard_normal((40, columns), np.float32) * sizes for _ in range(3)]


@pytest.mark.parametrize("columns", SIZES)
def test_the_gram_matrix_is_that_of_all_texts(columns):
    x = np.concatenate(texts(columns)).astype(np.float64)
    gram = gram_matrix(texts(columns))
    assert gram.dtype == np.float32
    np.testing.assert_allclose(gram, x.T @ x, rtol=1e-5, atol=1e-5 * mean_diagonal(gram))


@pytest.mark.parametrize("columns", SIZES)
def test_the_factor_gives_the_matrix_again(columns):
    """With fewer tokens than channels: only damping makes such a matrix positive."""
    gram = gram_matrix(texts(columns))
    hessian = damped(np.zeros((2, columns), np.float32), gram, 0.01, largest_first(gram))
    lower = lower_factor(hessian)
    assert not np.triu(lower, 1).any()
    np.testing.assert_allclose(lower.T.astype(np.float64) @ lower, hessian, atol=1e-6 * hessian.max())


def test_losses_by_the_factor_are_those_by_the_matrix():
    hessian = damped(np.zeros((2, 700), np.float32), gram_matrix(texts(700)), 0.01)
    error = np.random.default_rng(0).standard_normal((5, 700)).astype(np.float32)
    np.testing.assert_allclose(
        factor_losses(error, lower_factor(hessian)), row_losses(error, hessian), rtol=1e-5
    )


def test_within_a_few_columns_is_the_factor_of_the_inverse():
    hessian = damped(np.zeros((2, 64), np.float32), gram_matrix(texts(64)), 0.1)
    upper = within(lower_factor(hessian)).astype(np.float64)
    np.testing.assert_allclose(upper.T @ upper @ hessian, np.eye(64), atol=1e-4)


def test_channels_that_carry_most_come_first():
    gram = np.diag([1.0, 9.0, 4.0])
    order = largest_first(gram)
    assert order.tolist() == [1, 2, 0]
    hessian = damped(np.zeros((1, 3), np.float32), gram, 0.5, order)
    np.testing.assert_allclose(np.diag(hessian), np.array([9, 4, 1]) / (14 / 3) + 0.5, rtol=1e-6)


def test_what_no_input_reached_can_be_factored():
    hessian = damped(np.zeros((1, 8), np.float32), np.zeros((8, 8)), 0.0)
    assert (np.diag(lower_factor(hessian)) > 0).all()


@pytest.mark.parametrize("gram", [np.eye(7), np.full((8, 8), np.inf)])
def test_a_wrong_gram_matrix_is_refused(gram):
    with pytest.raises(TransformError, match="finite Gram matrix of 8 x 8"):
        damped(np.zeros((1, 8), np.float32), gram, 0.01)
