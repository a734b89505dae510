"""`edgesdk index` and `edgesdk ask`: what is wrong is one line and exit code 1, and harms no index."""

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from edgesdk.retrieval.text_index import make_index, open_index


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "trip.md").write_text("# Trip to Lisbon\n\nThe tram costs 3 euros.")
    (folder / "boiler.txt").write_text("The boiler was repaired in March.")
    return folder


@pytest.fixture
def built(edgesdk, tmp_path, notes):
    path = tmp_path / "i"
    assert edgesdk("index", "build", path, notes).code == 0
    return path


class Two:
    name, width = "two", 2

    def embed(self, texts):
        import numpy as np

        return np.ones((len(texts), 2), np.float32) / 2**0.5

    def embed_question(self, question):
        return self.embed([question])[0]


def locked(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_an_unreadable_pdf_is_named_and_the_rest_is_read(edgesdk, tmp_path, notes, built):
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret")
    writer.write(notes / "locked.pdf")
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 nothing of the kind")
    (notes / "cut.pdf").write_bytes((notes / "locked.pdf").read_bytes()[:300])
    (notes / "new.txt").write_text("A violin.")
    done = edgesdk("index", "build", built, notes)
    assert done.code == 0
    assert sorted(line.split(":")[1].rsplit("/", 1)[-1] for line in done.err.splitlines()) == [
        "broken.pdf",
        "cut.pdf",
        "locked.pdf",
    ]
    assert done.out.startswith("1 added, 0 changed, 2 unchanged")
    assert "new.txt" in edgesdk("index", "search", built, "violin").out


def test_bad_input_is_one_line_and_leaves_the_index_as_it_is(
    edgesdk, tmp_path, notes, built, tiny_bundle, monkeypatch
):
    monkeypatch.setattr("edgesdk.retrieval.index_file._WAIT_S", 0.05)
    empty = tmp_path / "empty"
    empty.mkdir()
    of_two = tmp_path / "of two"
    with make_index(of_two, embedder=Two()) as index:
        index.add([notes])
    torn = tmp_path / "torn"
    torn.write_bytes(built.read_bytes()[:5000])
    kept = {path: path.read_bytes() for path in (built, of_two, torn)}
    cases = [
        (("index", "build", built, empty), "no text is in"),
        (("index", "add", built, tmp_path / "none"), "is not there"),
        (("index", "add", built, notes / "trip.md", "--embedder", tiny_bundle), "logits only"),
        (("index", "search", of_two, "tram", "--embedder", tiny_bundle), "logits only"),
        (("index", "search", torn, "tram"), "damaged"),
        (("index", "stats", torn, "--check"), "damaged"),
        (("index", "build", torn, notes), "damaged"),
        (("index", "search", notes / "trip.md", "tram"), "no index of texts"),
        (("index", "search", notes, "tram"), "is no file"),
        (("index", "stats", tmp_path / "none"), "index build"),
        (("index", "build", built, notes, "--words", "plain"), "of words english"),
        (("ask", tiny_bundle, torn, "tram?"), "damaged"),
        (("ask", tiny_bundle, tmp_path / "none", "tram?"), "index build"),
        (("ask", tiny_bundle, built, " "), "the question is empty"),
        (("ask", tmp_path / "no bundle", built, "tram?"), "there is no folder"),
        (("ask", tiny_bundle, built, "tram?", "--gate", "head"), "go together"),
    ]
    for arguments, message in cases:
        done = edgesdk(*arguments)
        assert done.code == 1, arguments
        assert message in done.error, done.err
        assert done.err.count("error: ") == 1
        assert "Traceback" not in done.err
    other = locked(built)
    (notes / "more.txt").write_text("A violin.")
    done = edgesdk("index", "build", built, notes)
    other.execute("ROLLBACK")
    other.close()
    assert (done.code, done.out) == (1, "")
    assert "in use by another process" in done.error
    assert {path: path.read_bytes() for path in kept} == kept
    assert edgesdk("index", "build", built, notes).out.startswith("1 added")


def test_an_index_of_another_embedding_model_is_refused_by_name(edgesdk, tmp_path, notes, made_encoder):
    path = tmp_path / "i"
    first, second = made_encoder("first"), made_encoder("second", seed=1)
    assert edgesdk("index", "build", path, notes, "--embedder", first).code == 0
    kept = path.read_bytes()
    for arguments in (("search", path, "tram"), ("add", path, notes), ("build", path, notes)):
        done = edgesdk("index", *arguments, "--embedder", second)
        assert done.code == 1
        assert "has embeddings of first" in done.error
        assert "the model given is second" in done.error
    (notes / "more.txt").write_text("A violin.")
    for arguments in (("add", path, notes), ("build", path, notes)):
        done = edgesdk("index", *arguments)  # passages without vectors could not be ranked
        assert done.code == 1
        assert "has embeddings of first" in done.error
        assert "--embedder" in done.error
    assert path.read_bytes() == kept
    assert "trip.md" in edgesdk("index", "search", path, "tram").out  # words alone need no model
    assert "first" in edgesdk("index", "stats", path).out
    assert "trip.md" in edgesdk("index", "search", path, "tram", "--embedder", first).out


def test_explain_shows_decisions_queries_and_passages(edgesdk, built, notes, long_bundle):
    asked = ("ask", long_bundle, built, "the tram?", "--gate", "always", "--no-rewrite", "--max-tokens", "4")
    done = edgesdk(*asked, "--explain")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split(" ms  ")[1].split(":")[0] for line in lines if " ms  " in line] == [
        "gate",
        "search",
        "prompt",
        "answer",
    ]
    assert "searched for: the tram?" in lines
    assert f"given [1] {notes / 'trip.md'}: # Trip to Lisbon The tram costs 3 euros." in lines
    nothing = edgesdk(*asked[:3], "xylophone", *asked[4:])
    assert nothing.out.splitlines()[-1] == "Searched: no passage was found that fits."
    record = edgesdk(*asked, "--json").json
    assert record["queries"] == ["the tram?"]
    assert record["passages"][0]["text"].endswith("The tram costs 3 euros.")


def test_an_encoder_without_its_onnx_file_says_what_is_missing(edgesdk, tmp_path, notes, made_encoder):
    folder = made_encoder("e")
    (folder / "onnx" / "model.onnx").unlink()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    done = edgesdk("index", "build", tmp_path / "i", notes, "--embedder", folder)
    assert done.code == 1
    assert "onnx/model.onnx" in done.error
    assert not (tmp_path / "i").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_leaves_an_index_that_goes_on(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(4000):
        (folder / f"{i}.txt").write_text(f"number{i} " * 60)
    path = tmp_path / "i"
    command = [sys.executable, "-m", "edgesdk", "index", "build", str(path), str(folder)]
    # A test that is itself run in the background may have handed its ignored signal down.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        while process.poll() is None and not (path.exists() and path.stat().st_size > 100_000):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (1, "", "interrupted")
    with open_index(path) as index:
        index.check()
        begun = index.stats().files
        assert 0 < begun < 4000
        report = index.add([folder])
    assert (report.added, report.unchanged) == (4000 - begun, begun)
