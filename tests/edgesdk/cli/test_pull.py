"""From a checkpoint to the shelf; two processes at once; killed at any moment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ("--recipe", "f32", "--target", "litert", "--context", 32)
KILLS = Path(__file__).parents[3] / "benchmarks" / "shelf_kills.py"


def test_a_folder_is_pulled_once_and_found_by_name(edgesdk, tiny_checkpoint, shelf):
    first = edgesdk("pull", tiny_checkpoint, *QUICK)
    assert first.code == 0
    assert 'Next:  edgesdk run llama "Hello."' in first.out
    assert [path.name for path in shelf.iterdir()] == ["llama"]
    made = (shelf / "llama" / "manifest.json").stat().st_mtime_ns
    again = edgesdk("pull", tiny_checkpoint, *QUICK)
    assert again.out == f"{tiny_checkpoint} is on the shelf already: it is llama\n"
    assert (shelf / "llama" / "manifest.json").stat().st_mtime_ns == made
    assert edgesdk("run", "llama", "x", "--max-tokens", 1).code == 0
    anew = edgesdk("pull", tiny_checkpoint, "--again", "--json", *QUICK)
    lines = [json.loads(line) for line in anew.out.splitlines()]
    assert {line["event"] for line in lines[:-1]} == {"progress"}
    assert (lines[-1]["event"], lines[-1]["bundle"]) == ("done", str(shelf / "llama"))
    assert (shelf / "llama" / "manifest.json").stat().st_mtime_ns > made


def test_what_run_has_converted_is_not_converted_again(edgesdk, tiny_checkpoint, shelf):
    edgesdk("run", tiny_checkpoint, "x", "--max-tokens", 1)
    there = edgesdk("pull", tiny_checkpoint)
    assert there.out == f"{tiny_checkpoint} is on the shelf already: it is llama-w8-round\n"
    said = edgesdk("pull", tiny_checkpoint, "--json")
    assert json.loads(said.out)["bundle"] == str(shelf / "llama-w8-round")


def test_a_name_that_has_something_else_is_kept(edgesdk, tiny_checkpoint, shelf):
    edgesdk("pull", tiny_checkpoint, "--name", "mine", *QUICK)
    edgesdk("alias", "short", "mine")
    other = edgesdk("pull", tiny_checkpoint.parent / "qwen2", "--name", "mine", *QUICK)
    assert other.error.startswith("error: mine is on the shelf and is another model or has other recipes")
    recipes = edgesdk("pull", tiny_checkpoint, "--name", "mine", "--recipe", "w8-round")
    assert "other recipes" in recipes.error
    alias = edgesdk("pull", tiny_checkpoint, "--name", "short", *QUICK)
    assert alias.error.startswith("error: short is an alias of mine; choose another name")
    assert edgesdk("show", "short", "--json").json["model"] == "llama"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("../x", "'../x' is no model that can be fetched; expected smollm2, a hub id"),
        ("none", "'none' is no model that can be fetched"),
        ("none.gguf", "there is no file none.gguf; give the path of a .gguf file"),
        (".", ". holds no checkpoint; expected a folder with config.json"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(edgesdk, shelf, tmp_path, monkeypatch, source, said):
    monkeypatch.chdir(tmp_path)
    assert said in edgesdk("pull", source).error
    assert not shelf.exists()


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", "A", "con", "a\\b", ".x"])
def test_names_that_leave_the_shelf_are_refused_before_anything_is_done(
    edgesdk, tiny_checkpoint, shelf, name
):
    result = edgesdk("pull", tiny_checkpoint, "--name", name, *QUICK)
    assert "is no name for a model" in result.error
    assert "reading" not in result.err
    assert not shelf.exists()


def test_two_processes_at_once_convert_once(tiny_checkpoint, shelf, tmp_path):
    command = [sys.executable, "-m", "edgesdk", "pull", str(tiny_checkpoint), *map(str, QUICK)]
    environment = {**os.environ, "EDGESDK_CACHE": str(tmp_path / "cache")}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert sum("is on the shelf already: it is llama" in out for out, _ in outs) == 1
    assert sum("writing litert" in err for _, err in outs) == 1
    assert [path.name for path in shelf.iterdir()] == ["llama"]


def test_a_folder_with_a_changed_configuration_is_converted_anew(edgesdk, tiny_checkpoint, shelf, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, folder)
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    edgesdk("pull", folder, *QUICK)
    made = (shelf / "mine" / "manifest.json").stat().st_mtime_ns
    os.utime(folder / "config.json", ns=(made + 10**9, made + 10**9))
    assert edgesdk("pull", folder, *QUICK).code == 0
    assert (shelf / "mine" / "manifest.json").stat().st_mtime_ns > made


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("how", [("--every", "alias,rm"), ("--rounds", "6", "--seed", "1")])
def test_the_shelf_is_whole_whatever_is_killed(how):
    """`rm` and `alias` are killed before every change they make, all and `pull` at random moments."""
    done = subprocess.run(
        [sys.executable, KILLS, "--json", *how], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    killed = json.loads(done.stdout)
    assert sum(killed.values()) >= 6
