"""An index: what it finds and keeps, whatever becomes of files and processes."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from edgesdk.errors import MissingExtra, RetrievalError, UnsupportedOption
from edgesdk.retrieval.index_file import WORDS, holds_nothing
from edgesdk.retrieval.text_index import make_index, open_index


def built(path, *texts, **kinds):
    with make_index(path, **kinds) as index:
        return index.add(texts)


def titles(path, question, top=3):
    with open_index(path) as index:
        return [passage.title for passage in index.search(question, top=top)]


def test_finds_by_stems_and_by_rare_words(tmp_path, notes):
    path = tmp_path / "i"
    report = built(path, notes)
    assert (report.added, report.passages, report.unread) == (3, 3, ())
    assert titles(path, "Which boilers were being repaired?")[0] == "boiler"
    assert titles(path, "How long does a cat sleep?")[0] == "Cats"
    assert titles(path, "state-of-the-art")[0] == "boiler"
    assert titles(path, "zebra") == []


@pytest.mark.parametrize(
    "question",
    ["", " ", '"', "NEAR(", "a OR", "title:cat", "*", "cat*", "-cat", "\0cat", "'; DROP TABLE files; --"],
)
def test_no_text_is_a_language(tmp_path, notes, question):
    built(tmp_path / "i", notes)
    titles(tmp_path / "i", question)
    assert titles(tmp_path / "i", "cat") == ["Cats"]


def test_words_of_a_question_that_too_many_passages_have_cost_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("edgesdk.retrieval.match_query._MOST_MATCHES", 5)
    folder = tmp_path / "f"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02}.txt").write_text(f"common words and the number{i}")
    built(tmp_path / "i", folder)
    assert titles(tmp_path / "i", "common words number7") == ["07"]
    # The rarest is kept however common it is.
    assert len(titles(tmp_path / "i", "common words", top=50)) == 20


def test_texts_without_spaces(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.txt").write_text("東京タワーは高さ三百三十三メートルです。")
    (folder / "b.txt").write_text("京都には古いお寺がたくさんあります。")
    built(tmp_path / "i", folder, words="trigram")
    assert titles(tmp_path / "i", "東京タワーの高さは?")[0] == "a"
    assert titles(tmp_path / "i", "古いお寺")[0] == "b"


def test_keeps_up_with_files(tmp_path, notes):
    path = tmp_path / "i"
    built(path, notes)
    assert built(path, notes).unchanged == 3
    os.utime(notes / "cats.html", (1, 1))  # touched, not changed
    (notes / "boiler.txt").write_text("A new stove.")
    (notes / "trip.md").unlink()
    (notes / "new.txt").write_text("A violin.")
    report = built(path, notes)
    assert (report.added, report.changed, report.unchanged, report.removed) == (1, 1, 1, 1)
    assert titles(path, "repaired March") == []
    assert titles(path, "stove") == ["boiler"]
    assert titles(path, "Lisbon tram") == []
    with open_index(path) as index:
        index.check()
        stats = index.stats()
    assert (stats.files, stats.passages) == (3, 3)
    for file in notes.iterdir():
        file.unlink()
    assert built(path, notes).removed == 3


def test_what_cannot_be_read_is_said_and_harms_nothing(tmp_path, notes):
    path = tmp_path / "i"
    built(path, notes)
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 nothing of the kind")
    (notes / "trip.md").write_bytes(b"Lisbon \xe9t\xe9")
    (notes / "zero.txt").write_bytes(b"a\0b")
    report = built(path, notes)
    assert {unread.path.name for unread in report.unread} == {"broken.pdf", "trip.md", "zero.txt"}
    assert all("\n" not in unread.why for unread in report.unread)
    assert titles(path, "tram") == ["Trip to Lisbon"]  # as it was last read


def test_a_pdf(tmp_path):
    from pypdf import PdfWriter

    folder = tmp_path / "f"
    folder.mkdir()
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(folder / "blank.pdf")
    (folder / "written.pdf").write_bytes(one_page("The violin was tuned on Monday."))
    report = built(tmp_path / "i", folder)
    assert [unread.path.name for unread in report.unread] == ["blank.pdf"]
    assert titles(tmp_path / "i", "tuned violins") == ["written"]


def one_page(text):
    """The smallest file that shows a text (PDF 1.7, 7.5)."""
    stream = f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    out, places = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    tail = b"xref\n0 5\n0000000000 65535 f \n%strailer\n<< /Size 5 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
    return out + tail % (table, len(out))


def test_bad_arguments(tmp_path, notes):
    path = tmp_path / "i"
    with pytest.raises(RetrievalError, match="index build"):
        open_index(path)
    with pytest.raises(UnsupportedOption, match="english, plain, trigram"):
        make_index(path, words="klingon")
    with pytest.raises(RetrievalError, match="is not there"):
        make_index(tmp_path / "no" / "i")
    assert not path.exists()
    with make_index(path) as index:
        with pytest.raises(RetrievalError, match="expected a file or a folder"):
            index.add([tmp_path / "nothing"])
        (tmp_path / "empty").mkdir()
        with pytest.raises(RetrievalError, match="no text is in"):
            index.add([tmp_path / "empty"])
        index.add([notes])
        for top in (0, True, 2000, "3"):
            with pytest.raises(UnsupportedOption, match="expected 1 to 1000"):
                index.search("cat", top=top)
        with pytest.raises(UnsupportedOption, match="expected a text"):
            index.search(None)
    with pytest.raises(RetrievalError, match="of words english"):
        make_index(path, words="plain")


def test_other_files_are_refused_and_left_alone(tmp_path, notes):
    other = tmp_path / "other"
    for content in (b"hello", b"SQLite format 3\0" + bytes(100)):
        other.write_bytes(content)
        with pytest.raises(RetrievalError, match=r"no index|damaged|database"):
            make_index(other)
        assert other.read_bytes() == content
    other.unlink()
    with sqlite3.connect(other) as strange:
        strange.execute("CREATE TABLE a (b)")
    strange.close()
    with pytest.raises(RetrievalError, match="no index of texts"):
        open_index(other)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (a)",
        "CREATE VIEW texts_seen AS SELECT 1",
        "CREATE TRIGGER texts_data AFTER INSERT ON files BEGIN SELECT 1; END",
        "DROP INDEX passages_of_files",
        "DROP TABLE texts_content; CREATE TABLE 'texts_content'(id INTEGER PRIMARY KEY, c0, "
        "c1 AS (hex(zeroblob(1000))))",
        "PRAGMA user_version = 9",
        "PRAGMA application_id = 5",
    ],
)
def test_a_schema_that_is_not_ours_is_refused(tmp_path, notes, statement):
    path = tmp_path / "i"
    built(path, notes)
    with sqlite3.connect(path) as strange:
        strange.executescript(statement)
    strange.close()
    with pytest.raises(RetrievalError, match=r"other tables|format 9|no index"):
        open_index(path)


def test_a_damaged_index_is_one_line(tmp_path, notes):
    path = tmp_path / "i"
    built(path, notes)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    said = 0
    for _ in range(60):
        broken = bytearray(whole)
        for place in random.integers(100, len(whole), 40):
            broken[place] = random.integers(256)
        path.write_bytes(broken[: random.integers(200, len(whole) + 1)] if random.random() < 0.3 else broken)
        try:
            with open_index(path) as index:
                index.search("the cat sleeps in the boiler")
                index.check()
                index.stats()
        except RetrievalError as error:
            assert "\n" not in str(error)
            said += 1
    assert said > 30


def test_a_locked_index_says_so(tmp_path, notes, monkeypatch):
    monkeypatch.setattr("edgesdk.retrieval.index_file._WAIT_S", 0.05)
    path = tmp_path / "i"
    built(path, notes)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (notes / "more.txt").write_text("A violin.")
    with open_index(path) as index:
        assert index.search("cat")  # readers go on
        with pytest.raises(RetrievalError, match="in use"):
            index.add([notes])
    other.execute("ROLLBACK")
    other.close()
    assert built(path, notes).added == 1


BUILD = """
import sys
from edgesdk.retrieval import text_index

text_index._FILES_A_TIME = 16
print("ready", flush=True)
with text_index.make_index(sys.argv[1]) as index:
    index.add([sys.argv[2]])
"""


def test_kill_9_leaves_an_index_that_goes_on(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i}.txt").write_text(f"number{i} " * 50)
    path = tmp_path / "i"
    random = np.random.default_rng(1)
    for _ in range(6):
        command = [sys.executable, "-c", BUILD, str(path), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(random.uniform(0.0, 0.08))
            process.kill()
        if path.exists() and not holds_nothing(path):
            with open_index(path) as index:
                index.check()
    report = built(path, folder)
    assert report.added + report.unchanged == 300
    with open_index(path) as index:
        index.check()
        assert index.stats().files == 300
        assert index.search("number123")[0].path.name == "123.txt"


def test_what_was_killed_in_its_first_transaction_is_made_anew(tmp_path):
    """Pages are in the file already, and a journal says that they are to go."""
    folder, made, path, again = (tmp_path / name for name in ("f", "made", "i", "again"))
    folder.mkdir()
    (folder / "a.txt").write_text("a tram")
    with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        connection.executemany("INSERT INTO about VALUES (?, ?)", [(str(i), "x" * 999) for i in range(99)])
        for copy in (path, again):
            for end in ("", "-journal"):
                shutil.copy(f"{made}{end}", f"{copy}{end}")
    assert path.stat().st_size
    with pytest.raises(RetrievalError, match="was never finished; make it with: edgesdk index build"):
        open_index(path)
    assert holds_nothing(again)
    assert built(again, folder).added == 1


class Letters:
    """Embeds a text by how often it has each letter: known vectors, and a real cosine."""

    name = "letters"
    width = 26

    def embed(self, texts):
        counts = np.array(
            [[text.lower().count(chr(97 + i)) for i in range(26)] for text in texts], np.float32
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-6)

    def embed_question(self, question):
        return self.embed([question])[0]


def test_embeddings_rank_what_words_found(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.txt").write_text("zebra zebra zebra xylophone")
    (folder / "b.txt").write_text("zebra bead babe decade added")
    path = tmp_path / "i"
    with make_index(path, embedder=Letters()) as index:
        index.add([folder])
        assert [p.title for p in index.search("zebra faced abba bead")] == ["b", "a"]
        assert index.search("zebra")[0].score <= 1.001
    assert titles(path, "zebra")[0] == "a"  # BM25 alone, without the model

    class Other(Letters):
        name = "other"

    with pytest.raises(RetrievalError, match="embeddings of letters, the model given is other"):
        open_index(path, embedder=Other())
    plain = tmp_path / "plain"
    built(plain, folder)
    with pytest.raises(RetrievalError, match="has no embeddings"):
        open_index(plain, embedder=Letters())

    class Wordless(Letters):
        def embed_question(self, question):
            return np.zeros((2, 26), np.float32)

    with open_index(path, embedder=Wordless()) as index, pytest.raises(RetrievalError, match=r"\(2, 26\)"):
        index.search("zebra")

    class Broken(Letters):
        def embed(self, texts):
            return np.full((len(texts), 26), np.nan, np.float32)

    with (
        make_index(tmp_path / "broken", embedder=Broken()) as index,
        pytest.raises(RetrievalError, match="finite"),
    ):
        index.add([folder])


def test_every_tokenizer_is_one_that_sqlite_knows(tmp_path):
    for words in WORDS:
        with make_index(tmp_path / words, words=words) as index:
            assert index.search("anything at all") == []


def edgesdk(*arguments):
    run = [sys.executable, "-m", "edgesdk", "index", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=False)


def test_commands(tmp_path, notes):
    path = tmp_path / "i"
    failed = edgesdk("build", path, tmp_path / "nothing")
    assert failed.returncode == 1
    assert "is not there" in failed.stderr
    assert not path.exists()
    done = edgesdk("build", path, notes)
    assert done.returncode == 0
    assert done.stdout.startswith("3 added, 0 changed")
    found = edgesdk("search", path, "tram", "--json")
    assert '"Trip to Lisbon"' in found.stdout
    assert "passages    3" in edgesdk("stats", path, "--check").stdout
    assert "Traceback" not in edgesdk("stats", notes / "trip.md").stderr


def test_without_what_splits_texts_no_file_is_left(tmp_path, notes, monkeypatch):
    monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)
    with pytest.raises(MissingExtra, match="retrieval"):
        built(tmp_path / "i", notes)
    assert not (tmp_path / "i").exists()
