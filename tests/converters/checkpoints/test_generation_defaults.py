"""generation_config.json as transformers 5 reads it: what it samples with, and what is noted or refused."""

import pytest

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints.generation_defaults import generation_defaults

GREEDY = GenerationDefaults()


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({}, GREEDY),
        ({"do_sample": True}, GenerationDefaults(1.0, 50)),
        # gemma-3-1b-it
        ({"do_sample": True, "top_k": 64, "top_p": 0.95}, GenerationDefaults(1.0, 64, 0.95)),
        ({"do_sample": True, "top_k": 0, "temperature": 0.7}, GenerationDefaults(0.7, 0)),
        ({"do_sample": True, "top_k": -1, "temperature": 0.7}, GenerationDefaults(0.7, 0)),
        ({"do_sample": True, "top_k": None, "min_p": 0.999}, GenerationDefaults(1.0, 50, min_p=0.999)),
        ({"do_sample": True, "typical_p": 0.9}, GenerationDefaults(1.0, 50, typical_p=0.9)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.0}, GREEDY),
        ({"do_sample": True, "temperature": 0.0}, GREEDY),
        ({"do_sample": False, "temperature": 0.6}, GREEDY),
        ({"temperature": 0.6}, GREEDY),
        ({"repetition_penalty": 1.1}, GenerationDefaults(repetition_penalty=1.1)),
    ],
)
def test_recommended_sampling(config, found):
    assert generation_defaults(config)[0] == found


@pytest.mark.parametrize(
    ("config", "notes"),
    [
        ({"transformers_version": "5.24", "eos_token_id": [2], "use_cache": True, "max_length": 4096}, []),
        ({"do_sample": True, "temperature": 0.6, "num_beams": 1, "bad_words_ids": None}, []),
        ({"temperature": 0.6, "top_k": 20}, ["temperature, top_k of"]),
        (
            {"no_repeat_ngram_size": 3, "suppress_tokens": [5]},
            ["no_repeat_ngram_size of", "suppress_tokens of"],
        ),
    ],
)
def test_what_has_no_effect_here_is_noted(config, notes):
    found = generation_defaults(config)[1]
    assert len(found) == len(notes)
    assert all(
        line.startswith(start) and "left out" in line for line, start in zip(found, notes, strict=True)
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -1), ("temperature", float("nan")), ("temperature", float("inf")),
        ("temperature", "hot"),
        ("temperature", True), ("top_k", -2), ("top_k", 1.5), ("top_k", 10**400), ("top_p", -0.1),
        ("top_p", 1.1),
        ("min_p", 2), ("typical_p", 0), ("repetition_penalty", 0), ("do_sample", "yes"), ("top_p", [0.9]),
    ],
)  # fmt: skip
def test_a_value_without_a_meaning_is_refused(key, value):
    with pytest.raises(CheckpointError, match=f"generation_config.json has {key} ") as caught:
        generation_defaults({"do_sample": True, key: value})
    assert len(str(caught.value)) < 200
