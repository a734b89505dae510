"""The example runs, on a tiny model, as a user would run it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundle(converted_once):
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)


def run(*arguments, **options):
    command = [sys.executable, str(ROOT / "examples/ask_my_notes.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_it_answers_from_the_command_line_and_from_the_keyboard(bundle, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tea.md").write_text("# Tea\n\nTea is at five.")
    done = run(bundle, tmp_path / "notes", "When is tea?")
    assert done.returncode == 0, done.stderr
    assert "(search: mean entropy" in done.stdout
    assert "tea.md: " in done.stdout
    typed = run(bundle, tmp_path / "notes", input="When is tea?\n\n")
    assert typed.stdout.removeprefix("? ").startswith(done.stdout.splitlines()[0])


def test_no_notes_is_one_clear_line(bundle, tmp_path):
    done = run(bundle, tmp_path, "When?")
    assert done.returncode == 1
    assert done.stderr.startswith("no text is in")


def test_the_index_stands_beside_the_folder_whatever_it_is_called(tmp_path):
    folder = tmp_path / "notes.v2"
    folder.mkdir()
    (folder / "tea.md").write_text("Tea is at five.")
    done = run("no such bundle", ".", "When?", cwd=folder)
    assert done.returncode == 1
    assert "no such bundle" in done.stderr
    assert (tmp_path / "notes.v2.index").is_file()
    assert "Traceback" not in done.stderr
