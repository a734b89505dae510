"""Drawn drafts of a trained draft are kept as often as their distributions say, on a tiny model."""

from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.decoding.draft import Chances
from edgesdk.drafts.trained_draft import open_trained_draft
from edgesdk.kv.step_model import steps_of
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)

TINY = Path(__file__).parents[1] / "data" / "tiny" / "llama"
MOST_DEVIATIONS = 3.7
"""What chance passes once in five thousand runs; the seeds are fixed."""

SETTINGS = {
    "plain": {"temperature": 1.0, "repetition_penalty": 1.0},
    "filters and penalties": {"temperature": 1.3, "top_k": 60, "top_p": 0.9, "repetition_penalty": 1.2},
}


@pytest.fixture(scope="module")
def acceptance(benchmark_module):
    return benchmark_module("draft_acceptance")


@pytest.fixture(scope="module")
def model(converted_once, tmp_path_factory):
    """With a draft that nobody trained, over half of the model's tokens: now and then both agree."""
    checkpoint = open_checkpoint(str(TINY))
    values = checkpoint.config
    E, V = int(values["hidden_size"]), int(values["vocab_size"])
    target = DraftTarget("llama", V, E, tokenizer_digest(checkpoint.tokenizer), "tiny")
    config = DraftConfig(E, 32, 1, 3, 1e-5, target)
    random = np.random.default_rng(5)
    tensors = {
        name: np.ones(shape, np.float32)
        if len(shape) == 1
        else (random.standard_normal(shape) / 20).astype(np.float32)
        for name, shape in config.shapes.items()
    }
    folder = tmp_path_factory.mktemp("draft")
    write_draft(folder, DraftCheckpoint(config, tensors, np.arange(0, V, 2, dtype=np.int32)))
    bundle = converted_once(
        TINY, targets=("litert",), recipes=("f32",), context=128, prove=False, draft=folder
    )
    with edgesdk.load(bundle, strict=True, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def prompts(model):
    random = np.random.default_rng(1)
    return [random.integers(6, model.decoder.vocab_size, 8).tolist() for _ in range(24)]


def drafter_of(kind, model):
    variant = model.bundle.variant(model.receipt.variant)
    return kind(
        open_trained_draft(model.bundle, variant, steps_of(model.backend)), model.decoder.vocab_size, 3
    )


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_counted_is_one_less_the_distance(acceptance, model, prompts, name):
    drafter = drafter_of(acceptance.DrawnChains, model)
    places, efficiency = acceptance.measure(model, drafter, prompts, SETTINGS[name], 100)
    assert len(places) == 3
    assert places[0].judged > 1500
    assert 0.95 * places[0].kept < places[1].judged <= places[0].kept  # fewer where an answer ends
    assert 0.1 < places[0].expected / places[0].judged < 0.9
    assert efficiency > 1.1
    for place in places:
        assert abs(place.deviations) < MOST_DEVIATIONS


def test_a_draft_that_lies_is_found_out(acceptance, model, prompts):
    class Lying(acceptance.DrawnChains):
        """Says that it is surer than it is."""

        def claim(self, chances):
            sharper = chances.shares**4
            return Chances(chances.ids, sharper / sharper.sum())

    places, _ = acceptance.measure(model, drafter_of(Lying, model), prompts, SETTINGS["plain"], 100)
    assert abs(places[0].deviations) > 2 * MOST_DEVIATIONS


def test_overlap_and_interval_by_hand(acceptance):
    p = Chances(np.array([1, 3, 4]), np.array([0.5, 0.3, 0.2]))
    q = Chances(np.array([0, 3, 4]), np.array([0.6, 0.1, 0.3]))
    assert acceptance.overlap(p, q) == pytest.approx(0.3)
    place = acceptance.Place()
    for kept in (True, False, False, False):
        place.add(kept, 0.5)
    found = place.figures()
    assert (found["judged"], found["counted"], found["expected"]) == (4, 0.25, 0.5)
    assert found["interval"] == pytest.approx(1.96 * 0.25, abs=1e-3)
    assert found["deviations"] == pytest.approx(-1.0)
