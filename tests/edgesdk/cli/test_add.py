"""`edgesdk add`, as a user and as a program meets it."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(converted_once):
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)


def run(*arguments):
    import edgesdk

    return subprocess.run(edgesdk.command_line(*map(str, arguments)), capture_output=True, text=True)


def test_a_bundle_gets_a_name(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path))
    done = run("add", bundle, "--name", "mine", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-2]["share"] == 1
    assert events[-1] == {"event": "done", "bundle": str(tmp_path / "mine"), "name": "mine"}
    again = run("add", bundle, "--name", "mine")
    assert again.returncode == 1
    assert again.stderr.startswith("error: mine is on the shelf; give another name")
    assert run("run", "mine", "x", "--max-tokens", "2").returncode == 0


def test_what_is_no_bundle_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    done = run("add", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "has no manifest.json" in done.stderr


def test_a_killed_import_leaves_a_shelf_that_is_whole(bundle, monkeypatch, tmp_path):
    import edgesdk

    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    command = edgesdk.command_line("add", str(bundle), "--name", "mine", "--json")
    killed = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert killed.stdout.readline().startswith(b'{"event": "progress"')  # in the middle of its files
    killed.kill()
    killed.communicate()
    listed = json.loads(run("list", "--json").stdout)
    assert [model["damage"] for model in listed["models"]] in ([], [None])
    assert run("add", bundle, "--name", "mine", "--replace").returncode == 0
    assert not list((tmp_path / "shelf").glob(".*.partial"))
    with edgesdk.load("mine") as model:
        assert model.generate("x", max_tokens=2).new_tokens > 0
