"""Plans on tiny checkpoints, small enough to run whole."""

import json
import sqlite3
from pathlib import Path

import pytest

from edgesdk_converters.parity.prove import passages

TINY = Path(__file__).parents[2] / "data" / "tiny"
UNSTEADY = ("_per_s", "_ms", "seconds", "rss", "rounds", "answers", "share", "hottest")
"""Parts of the names of figures that differ from run to run."""

TASKS = """
[[tasks]]
kind = "evaluate"
text = "text.txt"
tokens = 120
window = 40
"""


@pytest.fixture
def write_plan(tmp_path):
    """`write_plan(tasks, **changes)`: the path of a plan beside its text; changes are TOML by key."""

    def write(tasks=TASKS, **changes):
        (tmp_path / "text.txt").write_text("\n\n".join(passages()), encoding="utf-8")
        keys = {
            "context": "64",
            "sources": f'[{{ name = "llama", path = "{(TINY / "llama").as_posix()}" }}]',
            "recipes": '["f32", "w8-round"]',
            "targets": '["litert"]',
            "devices": '[{ name = "here", threads = 1 }]',
        } | changes
        text = "".join(f"{key} = {value}\n" for key, value in keys.items()) + tasks
        path = tmp_path / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def rows_of():
    """`rows_of(folder)`: status, error and what does not depend on time of every row, by its place."""

    def read(folder):
        connection = sqlite3.connect(folder / "sweep.sqlite")
        query = "SELECT source, transform, recipe, target, device, task, status, error, figures FROM cells"
        found = {}
        for *place, status, error, figures in connection.execute(query):
            steady = {
                name: value
                for name, value in json.loads(figures).items()
                if not any(part in name for part in UNSTEADY)
            }
            found[tuple(place)] = (status, error, steady)
        connection.close()
        return found

    return read


@pytest.fixture
def journal_of():
    """`journal_of(folder)`: how often each job ended."""

    def read(folder):
        ends = {}
        for line in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            ends[entry["key"]] = ends.get(entry["key"], 0) + (entry["event"] == "end")
        return ends

    return read
