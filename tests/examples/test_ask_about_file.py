"""The example runs, on a tiny model, as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(converted_once):
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)


def run(*arguments):
    command = [sys.executable, str(ROOT / "examples/ask_about_file.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


def test_it_answers(bundle, tmp_path):
    (tmp_path / "note.txt").write_text("Tea at five.")
    done = run(bundle, tmp_path / "note.txt", "When?")
    assert done.returncode == 0, done.stderr
    assert "tokens read, first word after" in done.stdout


def test_a_long_text_is_one_clear_line(bundle, tmp_path):
    (tmp_path / "note.txt").write_text("Tea at five. " * 200)
    done = run(bundle, tmp_path / "note.txt", "When?")
    assert done.returncode == 1
    assert "note.txt is too long: the prompt has" in done.stderr
    assert "Traceback" not in done.stderr
