"""Calibration of whole decoders, on tiny random ones."""

import dataclasses

import numpy as np
import pytest

from edgesdk.errors import TransformError
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.calibrate import calibrate
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme

INT8 = Scheme(8, None, "round")


def recipe(block=32, algorithm="gptq"):
    rules = (Rule("embed", INT8), Rule("head", INT8), Rule("*", Scheme(4, block, algorithm)))
    return Recipe("own", rules)


@pytest.fixture(scope="module")
def texts():
    random = np.random.default_rng(1)
    return [random.integers(0, 96, 24).astype(np.int32) for _ in range(24)]


def logit_error(program, weights, texts):
    changed = dataclasses.replace(program, weights=weights)
    pairs = zip(sequence_logits(program, texts), sequence_logits(changed, texts), strict=True)
    return sum(float(((a - b) ** 2).sum()) for a, b in pairs)


@pytest.mark.parametrize("block", [32, None])
def test_logits_come_nearer_than_by_rounding(any_program, texts, block):
    program = prepare(any_program, recipe(block))
    found = calibrate(program, recipe(block), texts)
    rounded = QuantisedWeights(program.weights, recipe(block, "clip_search"))
    calibrated = QuantisedWeights(program.weights, recipe(block), found.tensors)
    held_out = [text[::-1] for text in texts[:8]]
    assert logit_error(program, calibrated, held_out) < 0.9 * logit_error(program, rounded, held_out)


def test_every_matrix_with_data_has_integers_and_a_record(any_program, texts):
    program = prepare(any_program, recipe())
    found = calibrate(program, recipe(), texts[:4])
    expected = {
        v.name for v in program.graph.weights if len(v.shape) == 2 and v.name not in ("embed", "head")
    }
    assert set(found.tensors) == expected == {r.weight for r in found.records}
    products = [r for r in found.records if r.weight != "layer_inputs.embed"]  # which nothing multiplies with
    assert all(r.algorithm == "gptq" and 0 < r.error <= r.rounded_error for r in products)


def test_the_same_text_gives_the_same_integers(make_program, texts):
    program = prepare(make_program("plain"), recipe())
    first, second = (calibrate(program, recipe(), texts[:3]).tensors for _ in range(2))
    for name, tensor in first.items():
        np.testing.assert_array_equal(tensor.values, second[name].values)
        np.testing.assert_array_equal(tensor.scales, second[name].scales)


def test_tables_are_fitted_where_a_head_multiplies_with_them(make_program, texts):
    everything = Recipe("own", (Rule("*", Scheme(4, 32, "gptq")),))
    for name, table, algorithm in (("plain", "embed", "gptq"), ("untied", "head", "clip_search")):
        program = make_program(name)
        records = {r.weight: r for r in calibrate(program, everything, texts[:3]).records}
        assert records["embed"].algorithm == algorithm
        assert records[table].algorithm == "gptq"
        assert 0 < records[table].error < records[table].rounded_error
        QuantisedWeights(program.weights, everything, calibrate(program, everything, texts[:1]).tensors).load(
            table
        )


def test_int8_activations_change_what_is_chosen(make_program, texts):
    program = prepare(make_program("plain"), recipe())
    plain = calibrate(program, recipe(), texts[:4]).tensors
    rounded = calibrate(program, recipe(), texts[:4], int8_activations=True).tensors
    assert any((plain[n].values != rounded[n].values).any() for n in plain)


def test_weights_without_their_calibration_are_refused(make_program):
    weights = QuantisedWeights(make_program("plain").weights, recipe())
    with pytest.raises(TransformError, match="calibration data, and got none"):
        weights.load("layers.0.o")
    assert weights.load("embed").shape == (96, 64)


def test_no_tokens_are_refused(make_program):
    with pytest.raises(TransformError, match="no tokens"):
        calibrate(make_program("plain"), recipe(), [np.zeros(0, np.int32)])


def test_a_block_that_does_not_fit_is_refused_before_the_work(make_program, texts):
    with pytest.raises(TransformError, match=r"multiple of 64, but 'layers.0.down' has 96"):
        calibrate(make_program("plain"), recipe(64), texts[:1])


def test_each_matrix_is_announced(make_program, texts):
    said = []
    calibrate(make_program("plain"), recipe(), texts[:1], said.append)
    assert said[0] == "calibrating layers.0.q"
    assert len(said) == 14
