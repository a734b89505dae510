"""`edgesdk vocab report`."""

import pytest


@pytest.fixture
def texts(tmp_path):
    corpus, held_out = tmp_path / "corpus.txt", tmp_path / "held-out.txt"
    corpus.write_text("the cat sat on the mat\n" * 5, encoding="utf-8")
    held_out.write_text("the dog is in the rain\n", encoding="utf-8")
    return corpus, held_out


def test_a_table(edgesdk, tiny_checkpoint, texts):
    corpus, held_out = texts
    result = edgesdk(
        "vocab", "report", tiny_checkpoint, "--prune-vocab", f"corpus={corpus}", "--text", held_out
    )
    assert result.code == 0, result.err
    assert "of 288 tokens" in result.out
    assert "held-out.txt" in result.out
    assert "exact" in result.out


def test_json(edgesdk, tiny_checkpoint, texts):
    corpus, held_out = texts
    option = f"corpus={corpus},size=280"
    result = edgesdk(
        "vocab", "report", tiny_checkpoint, "--prune-vocab", option, "--text", held_out, "--json"
    )
    assert result.code == 0, result.err
    report = result.json
    assert report["vocabulary"]["tokens"] == 280
    assert report["vocabulary"]["method"] == "corpus=corpus.txt,size=280"
    assert report["texts"][0]["round_trips"] is True
    assert report["savings"]["predicted_step_speedup"] > 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("language=en,size=5", "tokens have to stay"),
        ("english", "prune-vocab has 'english'"),
        ("corpus=/nowhere", "/nowhere cannot be read"),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(edgesdk, tiny_checkpoint, texts, option, message):
    result = edgesdk("vocab", "report", tiny_checkpoint, "--prune-vocab", option, "--text", texts[1])
    assert result.code == 1
    assert message in result.error


def test_help_of_the_report(edgesdk):
    result = edgesdk("vocab", "report", "--help")
    assert result.code == 0
    assert "Examples:" in result.out
