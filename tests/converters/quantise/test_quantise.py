"""Recipes and rounding."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Scheme, find_recipe
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest

matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.just(64)), elements=st.floats(-100, 100, width=32)
)


@pytest.mark.parametrize("name", ["", "w3", "w4", "w4b16", "w8c", "W8", "w4b32 "])
def test_names_outside_the_grammar_are_refused(name):
    with pytest.raises(UnsupportedOption, match="expected f32"):
        find_recipe(name)


def test_the_first_matching_rule_wins():
    recipe = find_recipe("w4b32-round")
    assert recipe.scheme("embed") == Scheme(8, None, "round")
    assert recipe.scheme("head").bits == 8
    assert recipe.scheme("layers.3.down") == Scheme(4, 32, "clip_search")
    assert find_recipe("f16").scheme("layers.3.down") is None


@settings(deadline=None)
@given(matrices)
def test_eight_bits_lose_at_most_half_a_step(weight):
    q = round_to_nearest(weight, Scheme(8, None, "round"))
    assert q.values.min() >= -127
    assert (np.abs(q.dequantise() - weight) <= q.scales / 2 * 1.001 + 1e-6).all()


@settings(deadline=None)
@given(matrices)
def test_searched_clipping_is_never_worse_than_none(weight):
    searched = round_to_nearest(weight, Scheme(4, 32, "clip_search")).dequantise()
    plain = round_to_nearest(weight, Scheme(4, 32, "round")).dequantise()
    assert ((searched - weight) ** 2).sum() <= ((plain - weight) ** 2).sum() * (1 + 1e-5) + 1e-6


def test_searched_clipping_helps_on_ordinary_weights():
    weight = np.random.default_rng(0).standard_normal((32, 256)).astype(np.float32)
    errors = [
        ((round_to_nearest(weight, Scheme(4, 32, how)).dequantise() - weight) ** 2).mean()
        for how in ("round", "clip_search")
    ]
    assert errors[1] < 0.95 * errors[0]


def test_blockwise_scales_are_half_precision_numbers():
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    q = round_to_nearest(weight, Scheme(4, 32, "clip_search"))
    np.testing.assert_array_equal(q.scales, q.scales.astype(np.float16))
    assert q.scales.shape == (4, 2)
    assert q.values.min() >= -8
    assert q.values.max() <= 7


def test_blockwise_scales_are_numbers_that_kernels_use_as_they_are():
    """Least and most as well: float16 and bfloat16 hold what is multiplied with."""
    weight = np.random.default_rng(0).standard_normal((6, 64)).astype(np.float32)
    weight *= np.array([[1e-9], [1e-4], [1], [1e4], [4.6e5], [1e9]], np.float32)
    for how in ("round", "clip_search"):
        scales = round_to_nearest(weight, Scheme(4, 32, how)).scales
        np.testing.assert_array_equal(scales, scales.astype(np.float16))
        np.testing.assert_array_equal(scales, scales.astype(ml_dtypes.bfloat16))
        assert np.isfinite(scales).all()
        assert (scales > 0).all()


def test_zero_weights_stay_zero():
    for scheme in (Scheme(8, None, "round"), Scheme(4, 32, "clip_search")):
        assert not round_to_nearest(np.zeros((2, 64), np.float32), scheme).dequantise().any()


def test_vectors_stay_floating_point(make_program):
    program = make_program("plain")
    weights = QuantisedWeights(program.weights, find_recipe("w8-round"))
    assert weights.scheme("final_norm") is None
    np.testing.assert_array_equal(weights.load("final_norm"), program.weights.load("final_norm"))
    assert weights.scheme("layers.0.q").bits == 8


def test_a_block_that_does_not_divide_the_row_is_refused(make_program):
    weights = QuantisedWeights(make_program("plain").weights, find_recipe("w4b64"))
    with pytest.raises(TransformError, match=r"multiple of 64, but 'layers.0.down' has 96 columns"):
        weights.quantised("layers.0.down")


def test_float16_refuses_what_it_cannot_hold(make_program):
    program = make_program("plain")

    class Large:
        def __iter__(self):
            return iter(program.weights)

        def shape(self, name):
            return program.weights.shape(name)

        def load(self, name):
            values = np.array(program.weights.load(name))
            if name in large:
                values.flat[7] = large[name]
            return values

    large = {"layers.1.up": 65519.0, "layers.0.down": -65504.0, "final_norm": 1e6}  # vectors stay float32
    for name in large:
        QuantisedWeights(Large(), find_recipe("f16")).load(name)
    for value in (65520.0, -1e5):
        large = {"layers.1.up": value}
        QuantisedWeights(Large(), find_recipe("f32")).load("layers.1.up")
        with pytest.raises(TransformError, match=r"layers\.1\.up .* not representable in float16") as caught:
            QuantisedWeights(Large(), find_recipe("f16")).load("layers.1.up")
        assert f"{abs(value):.6g}" in str(caught.value)
