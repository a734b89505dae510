"""On SmolLM2-135M: what it cannot know comes from a note, and what it knows needs none."""

import pytest

import edgesdk

pytestmark = pytest.mark.real


def test_a_fact_of_ones_own_is_found_and_told(smollm2_float, index):
    with edgesdk.load(smollm2_float, backend="litert") as model:
        own = edgesdk.answer_with_sources(model, index, "When was the boiler repaired?", rewrite=False)
        assert own.searched
        assert "March" in own.text
        assert own.sources[0].title == "boiler"
        known = edgesdk.answer_with_sources(
            model, index, "What is the capital of South Korea?", rewrite=False
        )
        assert not known.searched
        assert "Seoul" in known.text
