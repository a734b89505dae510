"""The curves benchmark on a tiny checkpoint: it goes on where it stopped, and draws what it has."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

TINY = Path(__file__).parents[1] / "data" / "tiny"


@pytest.fixture(scope="module")
def curves(benchmark_module):
    return benchmark_module("layer_curves")


def run(curves, monkeypatch, folder, *more):
    text = curves.EvaluationText("prose", "test", "some words of no meaning at all " * 90)
    monkeypatch.setattr(curves, "TEXTS", {"prose": lambda: text, "technical": lambda: text})
    command = [str(TINY / "gemma3"), "--json", str(folder / "c.json"), "--remove", "2", "--seeds", "2"]
    command += ["--rank-tokens", "256", "--window", "64", "--tokens", "120", *more]
    return CliRunner().invoke(curves.main, command)


def test_it_measures_once_and_goes_on(curves, monkeypatch, tmp_path):
    done = run(curves, monkeypatch, tmp_path)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "c.json").read_text())
    assert set(document["rankings"]) == {"greedy", "influence", "loss", "random 0", "random 1"}
    assert all(len(removals) == 2 for removals in document["rankings"].values())
    assert document["measured"]["none"]["prose"]["positions"] == 126
    assert "| removed | influence | loss | greedy | random" in done.output
    del document["measured"][curves.joined(document["rankings"]["greedy"])]
    (tmp_path / "c.json").write_text(json.dumps(document))
    monkeypatch.setattr(curves, "rank_all", None)  # would fail if it were ranked again
    again = run(curves, monkeypatch, tmp_path)
    assert again.exit_code == 0, again.output
    assert again.output.count("removed (") == 1
    other = run(curves, monkeypatch, tmp_path, "--tokens", "60")
    assert other.exit_code == 1
    assert "other settings" in other.output


def test_the_drawing_repeats_itself(curves, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        assert run(curves, monkeypatch, tmp_path, "--plot", str(tmp_path / name)).exit_code == 0
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    for word in (b"blocks removed", b"greedy", b"random, 2 seeds"):
        assert word in drawn
