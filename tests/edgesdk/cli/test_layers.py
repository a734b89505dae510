"""`edgesdk layers rank`."""

import sys

import pytest

TEXT = "The ferry leaves at nine and comes back before the evening. Nobody on board looks at the water.\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 60, encoding="utf-8")
    return path


def test_tables(edgesdk, tiny_checkpoint, text):
    result = edgesdk("layers", "rank", tiny_checkpoint, "--remove", 1, "--text", text, "--repair", "linear")
    assert result.code == 0, result.err
    assert "greedy, 1024 tokens of text.txt" in result.out
    assert "512 other tokens" in result.out
    assert "running the whole stack" in result.err


def test_json(edgesdk, tiny_checkpoint, text):
    result = edgesdk(
        *("layers", "rank", tiny_checkpoint, "--remove", 1, "--unit", "half", "--text", text),
        *("--method", "influence", "--tokens", 768, "--json"),
    )
    assert result.code == 0, result.err
    report = result.json
    assert [score["part"] for score in report["ranking"]["scores"]][:2] == ["0.attention", "0.mlp"]
    assert report["curve"][0]["request"] == report["ranking"]["removals"][0]
    assert report["text"] == "text.txt"
    assert report["repaired"] == []


def test_the_built_in_sample_is_used_without_a_text(edgesdk, tiny_checkpoint):
    result = edgesdk(
        *("layers", "rank", tiny_checkpoint, "--remove", 1, "--method", "influence"),
        *("--tokens", 512, "--json"),
    )
    assert result.code == 0, result.err
    assert result.json["text"] == "builtin"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--remove", 50), "50 of"),
        (("--remove", 1, "--plot", "layers.png"), "no .svg file"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(edgesdk, tiny_checkpoint, text, options, message):
    result = edgesdk("layers", "rank", tiny_checkpoint, "--text", text, *options)
    assert result.code == 1
    assert message in result.error


def test_a_plot_names_the_extra_before_anything_runs(edgesdk, tiny_checkpoint, text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = edgesdk("layers", "rank", tiny_checkpoint, "--text", text, "--plot", tmp_path / "l.svg")
    assert result.code == 1
    assert "edgesdk[bench]" in result.error
    assert "running" not in result.err


def test_unknown_methods_are_wrong_usage(edgesdk, tiny_checkpoint):
    assert edgesdk("layers", "rank", tiny_checkpoint, "--method", "magic").code == 2


def test_help_of_the_ranking(edgesdk):
    result = edgesdk("layers", "rank", "--help")
    assert result.code == 0
    assert "Examples:" in result.out
