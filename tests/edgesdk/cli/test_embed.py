"""`edgesdk embed`: files and lines to JSON lines or an array."""

import json
from pathlib import Path

import numpy as np
import pytest

import edgesdk as package

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def bundle(converted_once):
    return converted_once(
        DATA / "embedders" / "qwen3", targets=("litert", "onnx-step"), recipes=("f32",), context=256
    )


@pytest.fixture(scope="module")
def vectors(bundle):
    with package.load(bundle, variant="litert-f32", threads=1) as model:
        yield model.embed(["The fox", "The dog"])


def test_lines_of_standard_input(edgesdk, bundle, vectors):
    done = edgesdk("embed", bundle, "--variant", "litert-f32", stdin="The fox\n\n  \nThe dog\n")
    assert done.code == 0, done.err
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [(each["source"], each["line"]) for each in found] == [("-", 1), ("-", 4)]
    np.testing.assert_allclose([each["embedding"] for each in found], vectors, atol=1e-6)


def test_files_to_an_array(edgesdk, bundle, vectors, tmp_path):
    (tmp_path / "a.txt").write_text("The fox")
    (tmp_path / "b.txt").write_text("The dog")
    out = tmp_path / "v.npy"
    done = edgesdk(
        "embed", bundle, tmp_path / "a.txt", tmp_path / "b.txt", "--out", out, "--variant", "litert-f32"
    )
    assert done.code == 0, done.err
    assert "2 vectors of 64 numbers" in done.err
    np.testing.assert_allclose(np.load(out), vectors, atol=1e-6)
    (tmp_path / "both.txt").write_text("The fox\nThe dog\n")
    done = edgesdk(
        "embed",
        bundle,
        "--lines",
        tmp_path / "both.txt",
        "--dimensions",
        4,
        "--no-normalise",
        "--pooling",
        "mean",
    )
    assert [len(json.loads(line)["embedding"]) for line in done.out.splitlines()] == [4, 4]


def test_lines_are_those_that_others_count(edgesdk, bundle, tmp_path):
    (tmp_path / "a.txt").write_bytes("The\x0cfox\u2028ran\r\nThe dog\rThe hen".encode())
    done = edgesdk("embed", bundle, "--variant", "litert-f32", "--lines", tmp_path / "a.txt")
    assert [json.loads(line)["line"] for line in done.out.splitlines()] == [1, 2, 3], done.err


def test_inspect_says_how_it_embeds(edgesdk, bundle):
    assert "by last, vectors of length 1, prompts document, query" in edgesdk("inspect", bundle).out


def test_bad_input_is_one_line(edgesdk, bundle, tiny_bundle, tmp_path):
    assert "there is no text to embed" in edgesdk("embed", bundle, stdin="\n").error
    assert edgesdk("embed", bundle, "--out", tmp_path / "v.txt", stdin="a").code == 2
    assert "its folder does not exist" in edgesdk("embed", bundle, "--out", tmp_path / "no" / "v.npy").error
    assert "cannot be read" in edgesdk("embed", bundle, tmp_path / "missing.txt").error
    done = edgesdk("embed", tiny_bundle, "--backend", "litert", stdin="a")
    assert (done.code, "--embeddings" in done.error) == (1, True)
    out = tmp_path / "v.npy"
    done = edgesdk("embed", bundle, "--out", out, stdin="gravity " * 300)
    assert done.code == 1
    assert not out.exists()


def test_an_index_is_ranked_by_a_bundle(edgesdk, bundle, tmp_path):
    pytest.importorskip("semantic_text_splitter")
    folder, index = tmp_path / "texts", tmp_path / "i.index"
    folder.mkdir()
    for name, text in (("a", "zebra zebra zebra xylophone"), ("b", "zebra bead babe decade added")):
        (folder / f"{name}.txt").write_text(text)
    built = edgesdk("index", "build", index, folder, "--embedder", bundle)
    assert built.code == 0, built.err
    found = edgesdk("index", "search", index, "zebra bead", "--embedder", bundle, "--json")
    passages = json.loads(found.out)["passages"]
    with package.load(bundle) as model:
        asked = model.embed(["zebra bead"], prompt="query")[0]
        expected = model.embed([each["text"] for each in passages]) @ asked
    np.testing.assert_allclose([each["score"] for each in passages], expected, atol=2e-3)


@pytest.mark.parametrize(
    "command", [("index", "search", "INDEX", "x"), ("index", "add", "INDEX", "."), ("ask", "m", "INDEX", "x")]
)
def test_what_is_no_index_is_refused_before_the_bundle_is_looked_for(edgesdk, tmp_path, command):
    given = [tmp_path / "none.index" if each == "INDEX" else each for each in command]
    done = edgesdk(*given, "--embedder", tmp_path / "no-bundle")
    assert done.code == 1
    assert "none.index" in done.err
    assert "no-bundle" not in done.err
