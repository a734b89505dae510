import json

import pytest


@pytest.fixture
def measured(edgesdk, tiny_bundle):
    return edgesdk(
        "explain", tiny_bundle, "--measure", "--budget", "60", "--recipe", "f32", "--threads", "1", "--json"
    )


def test_candidates_are_measured_and_kept(edgesdk, tiny_bundle, measured):
    assert measured.code == 0
    rows = {row["backend"]: row for row in measured.json["candidates"]}
    assert rows["onnxruntime"]["decode"]["tokens_per_s"] > 0
    assert rows["litert"]["reason"] is None
    assert "measuring litert-f32 with litert on cpu" in measured.err
    assert set(measured.json["choices"]) == {"none", "latency", "throughput", "power", "memory"}
    again = edgesdk("explain", tiny_bundle, "--recipe", "f32", "--threads", "1", "--json")
    assert again.json == measured.json
    assert "measuring" not in again.err
    text = edgesdk("explain", tiny_bundle, "--recipe", "f32", "--threads", "1").out
    assert "for latency" in text


def test_a_load_takes_what_was_measured(edgesdk, tiny_bundle, measured):
    arguments = ("--variant", "litert-f32", "--threads", "1", "--max-tokens", "2", "--raw", "--json")
    found = edgesdk("run", tiny_bundle, "ab", "--goal", "latency", *arguments)
    receipt = json.loads(found.out)["receipt"]
    assert receipt["choice"] == "measured before"
    assert receipt["goal"] == "latency"
    assert "chosen for latency, measured before" in found.err


def test_without_figures_it_says_so(edgesdk, tiny_bundle):
    found = edgesdk("explain", tiny_bundle)
    assert "not measured yet" in found.out
    assert "would be measured first" in found.out
    assert "without a goal" in found.out


def test_an_unknown_recipe(edgesdk, tiny_bundle):
    assert edgesdk("explain", tiny_bundle, "--recipe", "w99").error == (
        "error: no variant has the recipe 'w99'; the bundle has f32, w8"
    )
