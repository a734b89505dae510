"""What strangers and odd files may do to an index: values of other types, names, sizes, killed processes."""

import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from edgesdk.errors import RetrievalError
from edgesdk.retrieval import index_file, text_index
from edgesdk.retrieval import read_text as reading
from edgesdk.retrieval.gather import fit
from edgesdk.retrieval.read_text import read_text
from edgesdk.retrieval.text_index import TextIndex, make_index, open_index


@pytest.mark.parametrize("value", ["5", "NULL", "x'ff00'"])
def test_passages_that_are_no_text(tmp_path, notes, value):
    path = tmp_path / "i"
    with make_index(path) as index:
        index.add([notes])
    with sqlite3.connect(path) as strange:
        strange.execute(f"UPDATE texts_content SET c1 = {value}")
    strange.close()
    with open_index(path) as index, pytest.raises(RetrievalError, match="damaged"):
        index.search("boiler")


def test_an_empty_file_is_one_that_was_begun(tmp_path, notes):
    (tmp_path / "i").touch()
    with make_index(tmp_path / "i") as index:
        assert index.add([notes]).added == 3
    with pytest.raises(RetrievalError, match="is no file"):
        open_index(notes)


@pytest.mark.skipif(sys.platform != "linux", reason="names there are text")
def test_a_name_that_is_no_text_is_said(tmp_path, notes):
    name = os.fsencode(notes) + b"/\xff.txt"
    try:
        with open(name, "w") as file:
            file.write("what it says")
    except OSError:
        pytest.skip("the file system takes only text")
    with make_index(tmp_path / "i") as index:
        report = index.add([notes])
    assert report.added == 3
    assert [unread.why for unread in report.unread] == ["its name is no UTF-8 text; rename it"]


def test_what_is_hidden_or_out_of_reach_is_not_gone(tmp_path, notes, monkeypatch):
    hidden = notes / ".hidden.md"
    hidden.write_text("a secret boiler")
    (notes / "deep").mkdir()
    (notes / "deep" / "d.txt").write_text("deep water")
    with make_index(tmp_path / "i") as index:
        index.add([hidden])
        assert index.add([notes]).removed == 0
        real = os.scandir

        def scandir(path):
            if str(path).endswith("deep"):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
        assert index.add([notes]).removed == 0
        assert index.search("water")
        monkeypatch.undo()
        hidden.unlink()
        (notes / "deep" / "d.txt").unlink()
        assert index.add([notes]).removed == 2


def test_large_texts_are_written_before_more_are_read(tmp_path, notes, monkeypatch):
    monkeypatch.setattr(text_index, "_CHARACTERS_A_TIME", 10)
    told = []
    with make_index(tmp_path / "i") as index:
        report = index.add([notes], lambda files, passages: told.append((files, passages)))
    assert (report.added, told) == (3, [(1, 1), (2, 2), (3, 3)])


def test_readers_read_while_more_is_written_than_sqlite_caches(tmp_path, notes, monkeypatch):
    path = tmp_path / "i"
    with make_index(path) as index:
        index.add([notes])
        index._db.execute("PRAGMA cache_size = 2")
        monkeypatch.setattr(index_file, "_WAIT_S", 0.0)
        text = " ".join(f"word{i}" for i in range(5000))
        for name in ("x", "y", "z"):
            (notes / f"{name}.txt").write_text(f"{name} {text}")
        found, write = [], TextIndex._write

        def watched(self, read, tally):
            write(self, read, tally)
            with open_index(path) as reader:
                found.append(len(reader.search("boiler")))

        monkeypatch.setattr(TextIndex, "_write", watched)
        assert index.add([notes]).added == 3
    assert found == [1] * len(found)
    assert len(found) >= 3


def test_html_is_read_in_one_walk(tmp_path, monkeypatch):
    page = tmp_path / "a.html"
    page.write_text(
        "<title>T</title><nav>go <b>home</b></nav><div>one<p>two<br>three</p>four <i>five</i></div>six"
        "<script>var x</script><!-- no --><template><p>seven</p></template>"
        + "<p>a</p>" * 9000
        + "<b>" * 9000
    )
    found = read_text(page)
    assert found.title == "T"
    assert found.text.startswith("one\n\ntwo\nthree\n\nfour five\n\nsix\n\na\n\na")
    monkeypatch.setattr(reading, "_MOST_TAGS", 100)
    with pytest.raises(RetrievalError, match="more than 100 tags"):
        read_text(page)


def test_a_heading_of_nothing_is_no_title(tmp_path):
    (tmp_path / "name.md").write_text("#   \n\ntext")
    assert read_text(tmp_path / "name.md").title == "name"


class Large:
    """Vectors that float16 cannot hold, or one too few."""

    name, width = "large", 4

    def __init__(self, value, missing=0):
        self.value, self.missing = value, missing

    def embed(self, texts):
        return np.full((len(texts) - self.missing, 4), self.value, np.float32)

    def embed_question(self, question):
        return np.full(4, self.value, np.float32)


@pytest.mark.parametrize(("embedder", "message"), [(Large(1e6), "finite"), (Large(0.5, 1), "shape")])
def test_vectors_that_an_index_cannot_hold(tmp_path, notes, embedder, message):
    with make_index(tmp_path / "i", embedder=embedder) as index:
        with pytest.raises(RetrievalError, match=message):
            index.add([notes])
        assert index.stats().files == 0


def test_vectors_of_a_stranger_are_finite(tmp_path, notes):
    path = tmp_path / "i"
    with make_index(path, embedder=Large(0.5)) as index:
        index.add([notes])
    with sqlite3.connect(path) as strange:
        strange.execute("UPDATE passages SET vector = x'007e007e007e007e'")
    strange.close()
    with open_index(path, embedder=Large(0.5)) as index, pytest.raises(RetrievalError, match="not finite"):
        index.search("boiler")


def test_a_special_token_that_is_a_space_ends(index):
    class Spaced:
        special_ids = (0,)

        def decode(self, ids, skip_special=True):
            return " "

        def encode(self, text, add_bos):
            return text.split()

    assert fit(index.search("boiler"), Spaced(), 100)[1].startswith("The boiler was")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gate", "head"], "go together"),
        (["--threshold", "nan"], "threshold"),
        (["--gate", "head", "--judge", "{notes}/trip.md"], "no JSON"),
    ],
)
def test_a_question_is_refused_before_a_model_is_loaded(tmp_path, notes, options, message):
    with make_index(tmp_path / "i") as index:
        index.add([notes])
    given = [option.format(notes=notes) for option in options]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgesdk",
            "ask",
            str(tmp_path / "no model"),
            str(tmp_path / "i"),
            "a",
            *given,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
