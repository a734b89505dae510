"""Choosing factors, on a tiny decoder with a channel that is made far too large."""

import dataclasses

import numpy as np
import pytest

from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_inputs, sequence_logits
from edgesdk_converters.graph.weights import Derived, DerivedWeights
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.choose_scales import choose_scales
from edgesdk_converters.quantise.int8_rows import round_rows_to_int8
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme
from edgesdk_converters.quantise.scalable_inputs import scalable_inputs
from edgesdk_converters.quantise.token_runs import TokenRuns
from edgesdk_converters.transforms.scale_channels import scale_channels

W8 = Recipe("own", (Rule("*", Scheme(8, None, "round")),))


@pytest.fixture
def texts():
    random = np.random.default_rng(1)
    return [random.integers(0, 96, 24).astype(np.int32) for _ in range(4)]


@pytest.fixture
def spiky(make_program):
    """A program whose `down` reads three channels a hundred times larger than the others."""
    program = make_program("plain")

    def large(base, name):
        rows = np.ones((96, 1), np.float32)
        rows[[4, 40, 77]] = 100
        return base.load(name) * (rows if name.endswith("up") else 1 / rows.T)

    changed = {
        f"layers.{layer}.{kind}": Derived(
            program.weights.shape(f"layers.{layer}.{kind}"),
            lambda base, n=f"layers.{layer}.{kind}": large(base, n),
        )
        for layer in (0, 1)
        for kind in ("up", "down")
    }
    return dataclasses.replace(program, weights=DerivedWeights(program.weights, changed, frozenset()))


def int8_logits(program, weights, texts):
    runs = TokenRuns(dataclasses.replace(program, weights=weights), texts, int8_activations=True)
    for node in program.graph.nodes:
        runs.step(node, {n: weights.load(n) for n in node.inputs if runs.is_weight(n)})
    return np.concatenate(runs.values("logits"))


def test_chosen_factors_bring_logits_nearer_as_int8_kernels_run(spiky, texts):
    reference = np.concatenate(list(sequence_logits(spiky, texts)))
    scaled = scale_channels(spiky, choose_scales(spiky, W8, texts))
    errors = [
        ((int8_logits(p, QuantisedWeights(p.weights, W8), texts) - reference) ** 2).mean()
        for p in (spiky, scaled)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_the_spikes_are_what_is_divided(spiky, texts):
    factor = choose_scales(spiky, W8, texts)["layers.0.gated"]
    assert set(np.argsort(factor)[-3:]) == {4, 40, 77}


def test_products_that_are_exact_are_scaled_for_their_weights_alone(spiky, texts):
    """As large an input as can be is no reason to scale where nothing rounds it."""
    exact = dataclasses.replace(W8, activations=(ActivationRule("*"),))
    reference = np.concatenate(list(sequence_logits(spiky, texts)))
    errors = []
    for recipe in (W8, exact):
        scaled = scale_channels(spiky, choose_scales(spiky, recipe, texts))
        stored = dataclasses.replace(scaled, weights=QuantisedWeights(scaled.weights, recipe))
        errors.append(((np.concatenate(list(sequence_logits(stored, texts))) - reference) ** 2).mean())
    assert errors[1] < errors[0]


def test_factors_fit_every_program(any_program, texts):
    chosen = choose_scales(any_program, W8, texts)
    assert set(chosen) <= {place.value for place in scalable_inputs(any_program)}
    before, after = (
        next(sequence_logits(p, texts)) for p in (any_program, scale_channels(any_program, chosen))
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_readers_that_stay_float_are_left_alone(spiky, texts):
    half = Recipe("own", (Rule("*.down", None), Rule("*", Scheme(8, None, "round"))))
    assert not any(value.endswith("gated") for value in choose_scales(spiky, half, texts))


def test_texts_run_apart_and_give_what_the_evaluator_gives(any_program, texts):
    runs = TokenRuns(any_program, texts)
    for node in any_program.graph.nodes:
        runs.step(node, {n: any_program.weights.load(n) for n in node.inputs if runs.is_weight(n)})
    found = next(sequence_logits(any_program, texts[:1]))
    expected = evaluate(any_program.graph, any_program.weights, sequence_inputs(any_program, texts[:1]))
    np.testing.assert_allclose(runs.values("logits")[0], expected["logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, expected["logits"], rtol=1e-5, atol=1e-5)


def test_rows_are_rounded_each_for_itself():
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32) * [[1], [100], [0]]
    x = x.astype(np.float32)
    rounded = round_rows_to_int8(x)
    step = (x.max(axis=1) - x.min(axis=1)) / 255
    assert (np.abs(rounded - x).max(axis=1) <= step * 0.51 + 1e-12).all()
    assert [len(np.unique(row)) > 30 for row in rounded] == [True, True, False]
    assert not rounded[2].any()
