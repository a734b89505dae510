"""Mixed precision: sensitivities are those of the changed matrix, mixtures keep to their budget."""

import dataclasses

import numpy as np
import pytest

from edgesdk.errors import UnsupportedOption
from edgesdk.evaluation.agreement import Agreement
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Derived, DerivedWeights
from edgesdk_converters.quantise.budget import Budget, parse_budget, search_mixture
from edgesdk_converters.quantise.recipe import Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.sensitivity import measure_sensitivities


@pytest.fixture
def program(make_program):
    return make_program("untied")


@pytest.fixture
def texts(program):
    random = np.random.default_rng(3)
    return [random.integers(0, program.spec.vocab_size, 40).astype(np.int32) for _ in range(3)]


def quantised(program, scheme):
    names = [n for n in program.weights if len(program.weights.shape(n)) == 2]
    return {n: round_to_nearest(program.weights.load(n), scheme) for n in names}


@pytest.fixture
def high(program):
    return quantised(program, Scheme(8, None, "round"))


@pytest.fixture
def low(program):
    return quantised(program, Scheme(4, None, "round"))


def divergence(program, tensors, texts):
    """What a mixture costs, computed by running it whole."""
    changed = {
        n: Derived(t.values.shape, lambda base, tensor=t: tensor.dequantise()) for n, t in tensors.items()
    }
    mixed = Program(program.spec, program.graph, DerivedWeights(program.weights, changed, frozenset()))
    agreement = Agreement()
    for text, a, b in zip(
        texts, sequence_logits(mixed, texts), list(sequence_logits(program, texts)), strict=True
    ):
        agreement.add(text, a, b)
    return agreement.report()


def test_sensitivities_are_ordered_by_what_a_byte_costs(program, high, low, texts):
    found = measure_sensitivities(program, high, low, texts)
    assert {s.weight for s in found} == set(low)
    assert [s.price for s in found] == sorted(s.price for s in found)
    assert all(s.bytes_saved == high[s.weight].nbytes - low[s.weight].nbytes > 0 for s in found)


def test_a_sensitivity_is_the_divergence_of_that_matrix_alone(program, high, low, texts, monkeypatch):
    monkeypatch.setattr("edgesdk_converters.quantise.sensitivity._SCORED_EVERY", 1)
    for entry in measure_sensitivities(program, high, low, texts):
        alone = divergence(program, {entry.weight: low[entry.weight]}, texts)
        assert entry.kl_nats == pytest.approx(alone.kl_nats, rel=1e-6)


def test_an_interrupted_measurement_goes_on(program, high, low, texts, tmp_path):
    store = tmp_path / "deep" / "figures.jsonl"
    whole = measure_sensitivities(program, high, low, texts, store=store)
    lines = store.read_text().splitlines()[1:]
    store.write_text("\n".join(lines[:5]) + "\n" + lines[5][:20])
    lines_said = []
    assert measure_sensitivities(program, high, low, texts, store=store, report=lines_said.append) == whole
    assert lines_said  # the rest was measured again
    lines_said.clear()
    assert measure_sensitivities(program, high, low, texts, store=store, report=lines_said.append) == whole
    assert not lines_said  # all was there


def test_other_integers_are_measured_anew(program, high, low, texts, tmp_path):
    store = tmp_path / "figures.jsonl"
    before = {s.weight: s.kl_nats for s in measure_sensitivities(program, high, low, texts, store=store)}
    changed = dataclasses.replace(low["layers.0.down"], values=np.zeros_like(low["layers.0.down"].values))
    after = {
        s.weight: s.kl_nats
        for s in measure_sensitivities(program, high, {**low, "layers.0.down": changed}, texts, store=store)
    }
    assert after.pop("layers.0.down") != before.pop("layers.0.down")
    assert after == before


@pytest.mark.parametrize("measure", ["perplexity", "kl"])
def test_the_mixture_keeps_to_its_quality(program, high, low, texts, measure):
    order = measure_sensitivities(program, high, low, texts[:2])
    every, none = (divergence(program, t, texts[2:]) for t in (low, high))
    figure = {"perplexity": "perplexity_ratio", "kl": "kl_nats"}[measure]
    limit = (getattr(every, figure) + 3 * getattr(none, figure)) / 4
    mixture = search_mixture(program, high, low, order, texts[2:], Budget(measure, limit))
    assert 0 < len(mixture.low) < len(low)
    found = divergence(program, mixture.tensors, texts[2:])
    assert getattr(found, figure) <= limit
    assert getattr(found, figure) == pytest.approx(getattr(mixture.chosen, figure))
    # One more would have been too much.
    more = next(p for p in mixture.frontier if p.low == mixture.chosen.low + 1)
    assert getattr(more, figure) > limit
    again = search_mixture(program, high, low, order, texts[2:], Budget(measure, limit))
    assert again.low == mixture.low
    assert again.frontier == mixture.frontier


def test_a_size_is_met_with_the_fewest_changes(program, high, low, texts):
    order = measure_sensitivities(program, high, low, texts[:1])
    total = sum(t.nbytes for t in high.values())
    mixture = search_mixture(program, high, low, order, texts[1:], Budget("size_mb", 0.8 * total / 1e6))
    assert mixture.chosen.size_bytes <= 0.8 * total
    assert mixture.chosen.size_bytes == sum(t.nbytes for t in mixture.tensors.values())
    last = order[len(mixture.low) - 1]
    assert last.weight in mixture.low
    assert mixture.chosen.size_bytes + last.bytes_saved > 0.8 * total


def test_impossible_budgets_are_refused(program, high, low, texts):
    order = measure_sensitivities(program, high, low, texts[:1])
    with pytest.raises(UnsupportedOption, match=r"no mixture fits 0\.001 MB.* they take 0\.0\d\d MB"):
        search_mixture(program, high, low, order, texts[1:], Budget("size_mb", 0.001))
    with pytest.raises(UnsupportedOption, match="no mixture stays within kl 1e-12"):
        search_mixture(program, high, low, order, texts[1:], Budget("kl", 1e-12))


@pytest.mark.parametrize(
    "text", ["", "perplexity", "perplexity=", "perplexity=1", "perplexity=nan", "kl=-1", "size=3", "kl=inf"]
)
def test_budgets_without_meaning_are_refused(text):
    with pytest.raises(UnsupportedOption, match=r"budget .*; expected for example (perplexity=1.02|kl=0.01)"):
        parse_budget(text)


def test_budgets_are_read():
    assert parse_budget("perplexity=1.02") == Budget("perplexity", 1.02)
    assert parse_budget("size_mb=90") == Budget("size_mb", 90.0)
