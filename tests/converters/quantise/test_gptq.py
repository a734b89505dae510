"""GPTQ: what it promises about the output of a layer."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.gptq import gptq
from edgesdk_converters.quantise.gram_factor import damped, gram_matrix, lower_factor, row_losses
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest

SCHEMES = [Scheme(4, 32, "gptq"), Scheme(4, 64, "gptq"), Scheme(4, None, "gptq"), Scheme(8, None, "gptq")]


@pytest.fixture
def layer():
    """A weight (48, 128) and correlated inputs (400, 128) with two large channels."""
    random = np.random.default_rng(0)
    mix = random.standard_normal((128, 20)) @ random.standard_normal((20, 128)) * 0.4 + np.eye(128)
    inputs = random.standard_normal((400, 128)) @ mix
    inputs[:, [3, 70]] *= 20
    return random.standard_normal((48, 128)).astype(np.float32) * 0.1, inputs.astype(np.float32)


def output_error(tensor, weight, inputs):
    return float(((inputs @ (tensor.dequantise() - weight).T) ** 2).sum())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_output_error_is_well_below_that_of_rounding(layer, scheme):
    weight, inputs = layer
    found = gptq(weight, inputs.T @ inputs, scheme)
    rounded = round_to_nearest(weight, Scheme(scheme.bits, scheme.block, "clip_search"))
    assert output_error(found.tensor, weight, inputs) < 0.5 * output_error(rounded, weight, inputs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_losses_are_the_damped_output_errors(layer, scheme):
    weight, inputs = layer
    gram = (inputs.T @ inputs).astype(np.float64)
    found = gptq(weight, gram, scheme, damping=0.01)
    damped = gram + 0.01 * np.diag(gram).mean() * np.eye(len(gram))
    loss = row_losses(found.tensor.dequantise() - weight, damped).sum()
    assert found.loss == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(3))
def test_no_matrix_ends_above_rounding(scheme, seed):
    random = np.random.default_rng(seed)
    weight = random.standard_t(2, (9, 64)).astype(np.float32)
    inputs = random.standard_t(1.5, (30, 64))  # fewer tokens than channels, wild ones
    found = gptq(weight, inputs.T @ inputs, scheme)
    assert found.loss <= found.rounding_loss * (1 + 1e-6)


@pytest.mark.parametrize("scheme", SCHEMES[:3])
def test_sweeps_only_help(layer, scheme):
    weight, inputs = layer
    gram = inputs.T @ inputs
    losses = [gptq(weight, gram, scheme, sweeps=n).loss for n in (0, 1, 3)]
    assert losses[0] > losses[1] >= losses[2] * (1 - 1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_integers_and_scales_can_be_stored(layer, scheme):
    weight, inputs = layer
    tensor = gptq(weight, inputs.T @ inputs, scheme).tensor
    assert tensor.values.dtype == np.int8
    assert tensor.values.min() >= (-127 if scheme.bits == 8 else -8)
    assert tensor.values.max() <= (127 if scheme.bits == 8 else 7)
    assert tensor.scales.shape == (48, 128 // scheme.block if scheme.block else 1)
    assert (tensor.scales > 0).all()
    if scheme.block:
        np.testing.assert_array_equal(tensor.scales, tensor.scales.astype(np.float16))


def test_what_lies_on_the_grid_stays(layer):
    weight, inputs = layer
    grid = round_to_nearest(weight, Scheme(4, 32, "clip_search")).dequantise()
    found = gptq(grid, inputs.T @ inputs, Scheme(4, 32, "gptq"))
    assert found.loss <= 1e-6 * row_losses(grid, np.eye(128, dtype=np.float32)).sum()


def test_dead_channels_and_zero_inputs_are_survived(layer):
    weight, inputs = layer
    inputs = inputs.copy()
    inputs[:, :40] = 0
    for gram in (inputs.T @ inputs, np.zeros((128, 128))):
        found = gptq(weight, gram, Scheme(4, 32, "gptq"))
        assert np.isfinite(found.tensor.dequantise()).all()
        assert np.abs(found.tensor.dequantise() - weight).max() < 0.1


@pytest.mark.parametrize("gram", [np.eye(64), np.full((128, 128), np.nan)])
def test_a_wrong_gram_matrix_is_refused(layer, gram):
    with pytest.raises(TransformError, match="finite Gram matrix of 128 x 128"):
        gptq(layer[0], gram, Scheme(4, 32, "gptq"))


@pytest.mark.parametrize("columns", [64, 576])
def test_integers_do_not_depend_on_the_cores_that_products_may_take(columns):
    # Products of one part took all cores, and summed otherwise: rows that were nearly as good changed.
    random = np.random.default_rng(5)
    inputs = random.standard_normal((2000, columns), dtype=np.float32)
    inputs[:, 1:] += inputs[:, :-1] * np.float32(0.9)
    weight = random.standard_normal((96, columns), dtype=np.float32)
    made = []
    for cores in (1, 2):
        with threadpool_limits(cores, user_api="blas"):
            gram = gram_matrix([inputs])
            tensor = gptq(weight, gram, Scheme(4, 32, "gptq")).tensor
            factor = lower_factor(damped(weight, gram, 0.01))
        made.append([part.tobytes() for part in (gram, factor, tensor.values, tensor.scales)])
    assert made[0] == made[1]
