"""The vectors in the repository are what edgesdk gives today; the Swift tests read them."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def read(vectors):
    return lambda name: json.loads((vectors / name).read_text(encoding="utf-8"))


def test_they_are_small(vectors):
    kept = [path for path in vectors.iterdir() if path.is_file()]
    assert {path.suffix for path in kept} == {".json"}
    assert sum(path.stat().st_size for path in kept) < 300_000


def test_tokenizers_and_stop_strings(script, vectors, read):
    assert script("host_vectors").text_vectors(vectors) == read("text.json")


def test_sampling(script, read):
    assert script("host_vectors").sampling_vectors() == read("sampling.json")


def test_steps(script, read):
    found = json.loads(json.dumps(script("host_vectors").step_vectors()))
    assert found == read("steps.json")
    signatures = {step["signature"] for operation in found["operations"] for step in operation["steps"]}
    assert signatures > {"step_1_16", "step_16_48"}  # both S, and cells that moved between them


def test_chats(script, read):
    assert json.loads(json.dumps(script("make_test_vectors").chat_vectors())) == read("chat.json")


def test_models(script, read, tiny_bundle):
    """Within their own tolerance: numpy's sums differ between processors."""
    made = script("make_test_vectors").model_vectors([tiny_bundle])
    kept = read("model.json")
    assert [bundle["name"] for bundle in kept["bundles"]] == list(script("make_test_vectors").CHECKPOINTS)
    assert made["tolerance"] == kept["tolerance"]
    cases = next(bundle["cases"] for bundle in kept["bundles"] if bundle["name"] == tiny_bundle.name)
    for found, case in zip(made["bundles"][0]["cases"], cases, strict=True):
        assert (found["prompt"], found["ids"]) == (case["prompt"], case["ids"])
        limit = kept["tolerance"] * case["largest"]
        values = dict(map(tuple, found["top"]))
        for token, value in case["top"][:4]:
            assert values[token] == pytest.approx(value, abs=limit)
        leads = np.array(case["margins"])
        clear = len(leads) if leads.min() > limit else int(np.argmax(leads <= limit))
        assert found["greedy"][:clear] == case["greedy"][:clear]


def test_their_digests_can_fail(read):
    """A value that is off by the tolerance is not another token's value in disguise."""
    kept = read("model.json")
    for bundle in kept["bundles"]:
        for case in bundle["cases"]:
            limit = kept["tolerance"] * case["largest"]
            assert case["top"][0][1] - case["top"][-1][1] > 4 * limit
            clear = [margin for margin in case["margins"] if margin > 2 * limit]
            assert len(clear) >= len(case["margins"]) / 2
