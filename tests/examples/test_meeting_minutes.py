"""The example runs, on a tiny model, as a user would run it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = "Anna: we move the fair to June. Ben: I will print the posters.\n"


@pytest.fixture(scope="module")
def bundle(converted_once, shared_folder):
    source = shared_folder / "minutes-llama"
    if not source.exists():
        shutil.copytree(ROOT / "tests/data/tiny/llama", source)
        config = json.loads((source / "config.json").read_text())
        config["max_position_embeddings"] = 2048
        (source / "config.json").write_text(json.dumps(config))
    return converted_once(source, targets=("litert",), recipes=("f32",), context=2048, prove=False)


def run(*arguments):
    command = [sys.executable, str(ROOT / "examples/meeting_minutes.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


@pytest.mark.parametrize("lines", [4, 80])
def test_minutes_have_every_section_also_of_a_long_meeting(bundle, tmp_path, lines):
    (tmp_path / "meeting.txt").write_text(LINE * lines)
    done = run(bundle, tmp_path / "meeting.txt")
    assert "Traceback" not in done.stderr
    for name in ("Decisions", "Tasks", "Open questions"):
        assert f"\n{name}\n" in done.stdout
    assert "tokens read" in done.stderr
    assert (" parts" in done.stderr) == (lines == 80)
    # A tiny model may write on until its tokens are used up, and then the example says so.
    assert done.returncode == (1 if "cut after" in done.stdout or "part " in done.stdout else 0)


def test_json_has_every_section(bundle, tmp_path):
    (tmp_path / "meeting.txt").write_text(LINE)
    done = run(bundle, tmp_path / "meeting.txt", "--json")
    assert list(json.loads(done.stdout)) == ["Decisions", "Tasks", "Open questions"]


def test_what_cannot_be_read_is_one_line(bundle, tmp_path):
    done = run(bundle, tmp_path / "none.txt")
    assert done.returncode == 1
    assert "none.txt: " in done.stderr
    assert "Traceback" not in done.stderr
