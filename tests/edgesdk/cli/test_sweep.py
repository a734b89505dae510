import pytest

PLAN = """
context = 64
sources = [{{ name = "llama", path = "{source}" }}]
recipes = ["f32", "{other}"]
targets = ["litert"]
devices = [{{ name = "here", threads = 1 }}]
[[tasks]]
kind = "bench"
prompt_tokens = 8
new_tokens = 4
repeat = 1
"""


@pytest.fixture
def plan(tmp_path, tiny_checkpoint):
    def write(other="w8-round"):
        path = tmp_path / "plan.toml"
        path.write_text(PLAN.format(source=tiny_checkpoint.as_posix(), other=other), encoding="utf-8")
        return path

    return write


def test_a_sweep_writes_table_and_report(edgesdk, plan, tmp_path):
    result = edgesdk("sweep", plan(), tmp_path / "out", "--json")
    assert result.code == 0
    assert (result.json["report"]["done"], result.json["report"]["failed"]) == (2, 0)
    points = {point["recipe"]: point for point in result.json["points"]}
    assert points["w8-round"]["size_bytes"] < points["f32"]["size_bytes"]
    assert points["f32"]["decode_tokens_per_s"] > 0
    assert "llama plain f32 litert here bench: done" in result.err
    assert (tmp_path / "out" / "report.html").is_file()
    again = edgesdk("sweep", plan(), tmp_path / "out")
    assert again.code == 0
    assert "done before this run  4" in again.out
    assert "2 done, 0 failed" in again.out


def test_a_dry_run_runs_nothing(edgesdk, plan, tmp_path):
    result = edgesdk("sweep", plan(), tmp_path / "out", "--dry-run", "--json")
    assert result.json == {"name": "sweep", "cells": 2, "bundles": 2}
    assert not (tmp_path / "out").exists()


def test_a_cell_that_fails_is_a_row_and_the_exit_code_is_0(edgesdk, plan, tmp_path):
    result = edgesdk("sweep", plan("p4"), tmp_path / "out")
    assert result.code == 0
    assert "1 done, 1 failed" in result.out
    assert "failed: not converted:" in result.err


def test_what_is_wrong_is_one_line(edgesdk, plan, tmp_path):
    for arguments, message in (
        ((tmp_path / "gone.toml", tmp_path / "out"), "cannot be read"),
        ((plan(), tmp_path / "out", "--on", "moon"), "there is no fleet 'moon'"),
        ((plan("nothing"), plan()), "Not a directory"),
    ):
        result = edgesdk("sweep", *arguments)
        assert result.code == 1
        assert message in result.error


def test_a_plan_of_which_nothing_can_be_done_is_refused(edgesdk, plan, tmp_path):
    path = plan("p4")
    path.write_text(path.read_text(encoding="utf-8").replace('"f32", ', ""), encoding="utf-8")
    result = edgesdk("sweep", path, tmp_path / "out", "--dry-run")
    assert result.code == 1
    assert "no cell of the plan can be converted" in result.error
