"""On SmolLM2-135M: what it cannot know comes from a note, and what it knows needs none."""

import pytest

import edgesdk

pytestmark = pytest.mark.real


def test_a_fact_of_ones_own_is_found_and_told(smollm2_float, index):
    with edgesdk.load(smollm2_float, backend="litert") as model:
        own = edgesdk.answer_with_sources(model, index, "What does a cat do for sixteen hours?")
        assert own.searched
        assert "sleep" in own.text.lower()
        assert own.sources[0].title == "Cats"
        known = edgesdk.answer_with_sources(
            model, index, "What is the capital of South Korea?", gate="entropy", threshold=2.0
        )
        assert not known.searched
        assert "Seoul" in known.text
