import json

import numpy as np
import pytest

from edgesdk.errors import BundleError
from edgesdk_converters.sweeps.drive import FinishedCell
from edgesdk_converters.sweeps.expand_plan import SweepCell
from edgesdk_converters.sweeps.job import Job, Outcome
from edgesdk_converters.sweeps.job_store import JobStore
from edgesdk_converters.sweeps.pareto import points_of
from edgesdk_converters.sweeps.sweep_table import COLUMNS, SweepTable, read_rows
from edgesdk_converters.sweeps.write_report import write_report

# recipe -> bytes, perplexity ratio, decode tokens/s, on the front
BUNDLES = {
    "f32": (540e6, 1.0, 40.0, True),
    "w8": (140e6, 1.01, 90.0, True),
    "w4": (90e6, 1.08, 80.0, True),
    "bad": (150e6, 1.02, 85.0, False),
    "same": (140e6, 1.01, 90.0, True),
}


def finished(recipe, task, figures, status="done", error=None):
    device = "-" if task == "convert" else "here"
    job = Job("a" * 64, "bench", "a job", {"repeat": 3})
    cell = SweepCell("model", "plain", recipe, "litert", device, task, (job,), "digest")
    made = {"started_at": "2026-11-29T12:00:00+00:00", "wall_s": 1.5, "host": "h", "edgesdk": "0"}
    return FinishedCell(cell, Outcome(job.key, status, error, figures, made), 1)


@pytest.fixture
def table(tmp_path):
    with SweepTable(tmp_path / "sweep.sqlite", "run") as opened:
        for recipe, (size, ratio, speed, _) in BUNDLES.items():
            opened.add(finished(recipe, "convert", {"size_bytes": size}))
            opened.add(finished(recipe, "evaluate", {"perplexity_ratio": ratio, "backend": "litert"}))
            opened.add(finished(recipe, "bench", {"decode_tokens_per_s": speed, "ttft_rounds_ms": [1, 2]}))
        opened.add(finished("broken", "bench", {}, "failed", "<b>no & room</b>"))
    return tmp_path / "sweep.sqlite"


def test_rows_come_back_as_they_were(table):
    rows = {row.place: row for row in read_rows(table)}
    assert len(rows) == 16
    bench = rows["model", "plain", "w8", "litert", "here", "bench"]
    assert bench.figures == {"decode_tokens_per_s": 90.0, "ttft_rounds_ms": [1, 2]}
    assert bench.made["wall_s"] == 1.5
    assert rows["model", "plain", "broken", "litert", "here", "bench"].error == "<b>no & room</b>"


def test_provenance_has_columns(table):
    import sqlite3

    connection = sqlite3.connect(table)
    row = dict(
        zip(
            COLUMNS,
            connection.execute("SELECT * FROM cells WHERE recipe = 'w8' AND task = 'bench'").fetchone(),
            strict=True,
        )
    )
    connection.close()
    assert (row["source_digest"], row["key"], row["host"]) == ("digest", "a" * 64, "h")
    assert json.loads(row["options"]) == {"repeat": 3}
    assert row["decode_tokens_per_s"] == 90.0
    assert row["perplexity"] is None


def test_the_front_is_what_nothing_beats(table):
    front = {point.recipe: point.front for point in points_of(read_rows(table))}
    assert front == {recipe: values[3] for recipe, values in BUNDLES.items()}


def test_a_point_without_a_figure_is_not_better_for_it(table):
    with SweepTable(table, "run") as opened:
        opened.add(finished("slow?", "convert", {"size_bytes": 141e6}))
        opened.add(finished("slow?", "evaluate", {"perplexity_ratio": 1.05}))
    front = {point.recipe: point.front for point in points_of(read_rows(table))}
    assert front["slow?"] is False


def test_the_report_shows_rows_and_hides_nothing(table, tmp_path):
    rows = list(read_rows(table))
    notes = write_report(tmp_path, "A <plan>", rows)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "A &lt;plan&gt;" in html
    assert "&lt;b&gt;no &amp; room&lt;/b&gt;" in html
    assert html.count("<tr") == 2 + 5 + 16
    assert html.count('class="front"') == 4
    assert "16 rows, 1 failed" in html
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "edgesdk[bench]" in notes[0]
    else:
        assert notes == []
        plot = (tmp_path / "pareto.svg").read_text(encoding="utf-8")
        for recipe in BUNDLES:
            assert f"{recipe} litert" in plot
        assert "<svg" in html
        write_report(tmp_path, "A <plan>", rows)
        assert (tmp_path / "pareto.svg").read_text(encoding="utf-8") == plot


def test_without_matplotlib_there_is_a_report(table, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    notes = write_report(tmp_path, "plan", list(read_rows(table)))
    assert len(notes) == 1
    assert "edgesdk[bench]" in notes[0]
    assert "<svg" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_rows_of_an_earlier_plan_go(table):
    with SweepTable(table, "another run") as opened:
        opened.add(finished("w8", "convert", {"size_bytes": 1.0}))
        opened.finish()
    assert [row.figures for row in read_rows(table)] == [{"size_bytes": 1.0}]


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(BundleError, match="is not there"):
        list(read_rows(tmp_path / "sweep.sqlite"))


def test_a_table_that_cannot_be_written_is_one_line(table):
    import sqlite3

    with SweepTable(table, "next") as opened:
        opened._connection.execute("PRAGMA busy_timeout = 50")
        reader = sqlite3.connect(table, isolation_level=None)
        reader.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BundleError, match=r"cannot be written .*locked.*; close what reads it"):
            opened.add(finished("w8", "bench", {}))
        with pytest.raises(BundleError, match="cannot be written"):
            opened.finish()
        reader.close()


def test_a_table_in_a_folder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(BundleError, match="cannot be opened"):
        SweepTable(tmp_path / "gone" / "sweep.sqlite", "run")


def test_figures_of_a_strange_outcome_have_no_column(table):
    with SweepTable(table, "next") as opened:
        opened.add(finished("w8", "bench", {"perplexity": [1, 2], "backend": {"a": 1}}))
    place = ("model", "plain", "w8", "litert", "here", "bench")
    (row,) = [row for row in read_rows(table) if row.place == place]
    assert row.figures["perplexity"] == [1, 2]


@pytest.mark.parametrize("value", [1 << 63, -(1 << 64), "\ud800"])
def test_what_sqlite_cannot_hold_is_no_outcome(value):
    document = {"key": "k", "status": "done", "figures": {"perplexity": value}, "made": {}}
    assert Outcome.from_json(document) is None
    assert Outcome.from_json({**document, "figures": {}, "made": {"host": value}}) is None
    assert Outcome.from_json({**document, "figures": {"perplexity": 1.5}}) is not None


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04 cut", b"text", b"\x93NUMPY\x01\x00"])
def test_damaged_positions_are_one_line(tmp_path, data):
    store = JobStore(tmp_path)
    store.prepare()
    (tmp_path / "positions" / "k.npz").write_bytes(data)
    with pytest.raises(BundleError, match="holds no scored positions"):
        store.read_positions("k")


def test_positions_that_are_one_array_are_one_line(tmp_path):
    store = JobStore(tmp_path)
    store.prepare()
    with (tmp_path / "positions" / "k.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(BundleError, match="holds no scored positions"):
        store.read_positions("k")
