"""Examples that read texts run as a user would run them, on a tiny model and the real one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = {
    "type": "object",
    "properties": {"day": {"type": "string", "maxLength": 12}, "count": {"type": "integer"}},
    "required": ["day", "count"],
    "additionalProperties": False,
}
NOTES = "Call with Maria. We meet on Friday at ten in the library. I have to print the tickets before."


@pytest.fixture(scope="module")
def bundle(converted_once, shared_folder):
    source = shared_folder / "texts-llama"
    if not source.exists():
        shutil.copytree(ROOT / "tests/data/tiny/llama", source)
        config = json.loads((source / "config.json").read_text())
        config["max_position_embeddings"] = 2048
        (source / "config.json").write_text(json.dumps(config))
    return converted_once(source, targets=("litert",), recipes=("f32",), context=2048, prove=False)


@pytest.fixture(scope="module")
def real(converted_once, smollm2_gguf):
    return converted_once(smollm2_gguf, targets=("litert",), recipes=("w8-round",), context=2048, prove=False)


def run(name, *arguments, **options):
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_facts_follow_the_schema_and_what_cannot_be_read_is_said(bundle, tmp_path):
    pytest.importorskip("llguidance")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Five boats come on Monday.")
    (tmp_path / "long.txt").write_text("word " * 5000)
    files = [tmp_path / name for name in ("a.txt", "none.txt", "b.txt", "long.txt")]
    done = run("extract_to_json.py", bundle, tmp_path / "schema.json", *files)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]).name for line in lines] == [path.name for path in files]
    assert "No such file" in lines[1]["error"]
    assert "context" in lines[3]["error"]
    assert done.returncode == 1
    for line in (lines[0], lines[2]):
        assert "cut after" in line.get("error", "cut after") or set(line["found"]) == {"day", "count"}


def test_summaries_are_kept_and_only_what_changed_is_read_again(bundle, tmp_path):
    (tmp_path / "a.txt").write_text("Tea is at five.")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.md").write_text("Milk is white. " * 300)  # more than the context
    (tmp_path / "picture.png").write_bytes(b"no text")
    first = run("summarise_folder.py", bundle, tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stderr.splitlines() == ["reading a.txt", "reading sub/b.md"]
    assert [line.partition(":")[0] for line in first.stdout.splitlines()[:2]] == ["a.txt", "sub/b.md"]
    (tmp_path / "a.txt").write_text("Tea is at six o'clock.")
    again = run("summarise_folder.py", bundle, tmp_path)
    assert again.stderr.splitlines() == ["reading a.txt"]
    (tmp_path / "summaries.json").write_text("[")  # damaged: everything is read again
    assert len(run("summarise_folder.py", bundle, tmp_path).stderr.splitlines()) == 2


def test_an_empty_folder_is_one_line(bundle, tmp_path):
    done = run("summarise_folder.py", bundle, tmp_path)
    assert done.returncode == 1
    assert "has no text: expected files that end with .md, .txt" in done.stderr


@pytest.mark.real
def test_a_dictated_note_is_written_and_the_pipeline_of_a_phone_finds_all(real, tmp_path):
    said = "Um, tomorrow I have to call the plumber.\nThe kitchen tap is dripping again.\n"
    done = run("voice_notes.py", real, input=said)
    assert done.returncode == 0, done.stderr
    for name in ("Title", "Note", "To do"):
        assert f"{name}: " in done.stdout
    assert "tap" in done.stdout
    (tmp_path / "notes.txt").write_text(NOTES)
    found = json.loads(run("phone_notes.py", real, tmp_path / "notes.txt").stdout)
    assert list(found) == ["who", "when", "where", "minutes", "tasks", "tags", "reply"]
    assert "Maria" in found["who"]
    assert "Friday" in found["when"]


@pytest.mark.real
def test_facts_and_summaries_of_the_real_model(real, tmp_path):
    pytest.importorskip("llguidance")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / "a.txt").write_text("Five boats come on Monday.")
    done = run("extract_to_json.py", real, tmp_path / "schema.json", tmp_path / "a.txt")
    found = json.loads(done.stdout)["found"]
    assert set(found) == {"day", "count"}
    assert "Monday" in found["day"]
    said = run("summarise_folder.py", real, tmp_path).stdout  # whatever a model of 135 M makes of it
    assert said.startswith("a.txt: ")
    assert "not read" not in said


def test_a_model_without_template_and_a_missing_file_are_lines(bundle, tmp_path):
    for name in ("phone_notes.py", "voice_notes.py"):
        done = run(name, bundle, tmp_path / "none.txt")
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["chat_window.py", "voice_notes.py"])
def test_help_is_not_taken_for_a_model(name):
    done = run(name, "--help")
    assert done.returncode == 1
    assert f"python examples/{name}" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="windows need no DISPLAY here")
def test_a_window_without_a_display_is_a_line():
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = run("chat_window.py", "no-model", env=environment)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


PLAN = json.loads((ROOT / "examples/phone_notes.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({**PLAN, "schema_version": 2}), "schema_version is 2, expected 1"),
        (json.dumps({**PLAN, "ask": {}}), "'questions' is missing"),
        (json.dumps({**PLAN, "extract": {"instruction": 3, "fields": []}}), "3 stands in place of a text"),
        (json.dumps({**PLAN, "rewrite": {"instruction": "i", "max_tokens": 0}}), "max_tokens is 0"),
    ],
)
def test_a_damaged_plan_is_a_line(tmp_path, plan, said):
    shutil.copy(ROOT / "examples/phone_notes.py", tmp_path)
    (tmp_path / "phone_notes.json").write_text(plan)
    command = [sys.executable, str(tmp_path / "phone_notes.py"), "no-model", "no-notes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "phone_notes.json" in done.stderr
    assert said in done.stderr
