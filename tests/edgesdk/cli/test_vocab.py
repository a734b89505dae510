"""`edgesdk vocab report` and `edgesdk vocab adapt`."""

import importlib.util
import json

import pytest
from tokenizers import Tokenizer


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


@pytest.fixture
def german(tmp_path):
    path = tmp_path / "de.txt"
    lines = [f"der Zug {i} fährt über die große Brücke nach Hamburg" for i in range(30)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_another_vocabulary(edgesdk, tiny_checkpoint, german, tmp_path):
    out = tmp_path / "out"
    command = ("vocab", "adapt", tiny_checkpoint, out, "--corpus", german, "--init", "mean", "--size", 300)
    result = edgesdk(*command)
    assert result.code == 0, result.err
    assert "288 to 300" in result.out
    assert "asked" not in result.out
    record = json.loads((out / "adaptation.json").read_text(encoding="utf-8"))
    assert f"{record['held_out_bytes']} bytes that were held out" in result.out
    lines = german.read_text(encoding="utf-8").splitlines(keepends=True)
    assert record["held_out_bytes"] == sum(len(line.encode()) for line in lines[::10])
    origins = json.loads((out / "origins.json").read_text())
    engine = Tokenizer.from_file(str(out / "tokenizer.json"))
    old = Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))
    assert len(origins) == 300
    for new, (origin, *sources) in enumerate(origins):
        if origin == "copied":
            assert [engine.id_to_token(new)] == [old.id_to_token(each) for each in sources]
        elif origin == "mixed":
            assert set(sources) <= set(old.encode(engine.decode([new]), add_special_tokens=False).ids)
    assert (out / "adaptation.svg").exists() == (importlib.util.find_spec("matplotlib") is not None)
    again = edgesdk(*command)
    assert again.code == 1
    assert "is there already" in again.error


def test_a_short_corpus_says_what_it_gives(edgesdk, tiny_checkpoint, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("der Zug der Zug\n", encoding="utf-8")
    command = ("vocab", "adapt", tiny_checkpoint, tmp_path / "out", "--corpus", short, "--init", "mean")
    result = edgesdk(*command)
    assert result.code == 0, result.err
    assert "24000 tokens, but the texts give no more" in result.out
    assert "too short to hold any out" in result.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no text is in"),
        (b" \n \n", "no words to learn from"),
        (b"x", "no token of more than a byte"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_corpus_of_nothing_is_refused_in_a_line(edgesdk, tiny_checkpoint, tmp_path, text, message):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(text)
    command = ("vocab", "adapt", tiny_checkpoint, tmp_path / "out", "--corpus", corpus, "--init", "mean")
    result = edgesdk(*command)
    assert result.code == 1
    assert message in result.error
    assert not (tmp_path / "out").exists()
