"""Factors for GPTQ: the loss that they promise, measured by GPTQ."""

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.quantise.gptq import gptq
from edgesdk_converters.quantise.gptq_scales import pivots, scales_for_gptq
from edgesdk_converters.quantise.recipe import Scheme

ROWS = Scheme(8, None, "gptq")
APART = np.arange(64)


def layer(seed):
    """A weight (48, 64) and the Gram matrix of inputs with channels of very different sizes."""
    random = np.random.default_rng(seed)
    mix = random.standard_normal((64, 20)) @ random.standard_normal((20, 64)) * 0.3 + np.eye(64)
    inputs = random.standard_normal((400, 64)) @ mix * np.exp(random.standard_normal(64))
    weight = random.standard_normal((48, 64)) * np.exp(0.5 * random.standard_normal(64))
    return weight.astype(np.float32), inputs.T @ inputs


def loss(weight, gram, factor):
    """Of GPTQ under factors, in the outputs that both have."""
    lost = gptq(weight * factor, gram / np.outer(factor, factor), ROWS, damping=1e-6).tensor.dequantise()
    error = lost / factor - weight
    return float(np.sum(error @ gram * error))


@pytest.mark.parametrize("seed", range(4))
def test_gptq_loses_much_less_with_them(seed):
    weight, gram = layer(seed)
    factor = scales_for_gptq([weight], gram, APART)
    assert np.exp(np.log(factor).mean()) == pytest.approx(1, rel=1e-3)
    assert loss(weight, gram, factor) < 0.6 * loss(weight, gram, np.ones(64, np.float32))


def test_pivots_tell_the_loss_of_gptq():
    """Rounding errors are uniform: a twelfth of a step, squared, for each pivot."""
    weight, gram = layer(1)
    unit = np.mean(np.diag(gram))
    step = np.abs(weight).max(axis=1) / 127
    expected = unit * np.square(step).sum() / 12 * pivots(weight, gram).sum()
    assert gptq(weight, gram, ROWS, sweeps=0).loss == pytest.approx(expected, rel=0.1)


def test_channels_of_a_group_have_one_factor():
    weight, gram = layer(2)
    groups = np.repeat(np.arange(32), 2)
    factor = scales_for_gptq([weight], gram, groups)
    np.testing.assert_array_equal(factor[::2], factor[1::2])
    assert loss(weight, gram, factor) < loss(weight, gram, np.ones(64, np.float32))


def test_all_readers_count():
    """A second matrix with one large column makes that column's factor smaller."""
    weight, gram = layer(3)
    other = weight.copy()
    other[:, 9] *= 50
    alone, both = (scales_for_gptq(found, gram, APART) for found in ([weight], [weight, other]))
    assert both[9] < alone[9] / 2


def test_what_has_nothing_to_gain_is_left_alone():
    weight = np.ones((8, 64), np.float32)
    assert scales_for_gptq([weight], np.eye(64), APART) is None
    assert scales_for_gptq([np.zeros((8, 64), np.float32)], np.eye(64), APART) is None


def test_dead_channels_are_survived():
    weight, gram = layer(0)
    gram[5], gram[:, 5] = 0, 0
    weight[:, 7] = 0
    factor = scales_for_gptq([weight], gram, APART)
    assert np.isfinite(factor).all()
    assert (factor > 0).all()


def test_a_wrong_gram_matrix_is_refused():
    with pytest.raises(TransformError, match="finite Gram matrix of 64 x 64"):
        scales_for_gptq([layer(0)[0]], np.eye(8), APART)
