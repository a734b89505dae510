"""Whole sweeps on tiny checkpoints, by every fleet."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from edgesdk.errors import BundleError, CapacityError, UnsupportedOption
from edgesdk_converters.sweeps.plan import read_plan
from edgesdk_converters.sweeps.run_job import run_job
from edgesdk_converters.sweeps.run_sweep import run_sweep

SHARDED = """
[[tasks]]
name = "sharded"
kind = "evaluate"
text = "text.txt"
tokens = 130
window = 40
shards = 3
"""
ALL_KINDS = """
[[tasks]]
kind = "prove"
[[tasks]]
kind = "bench"
prompt_tokens = 8
new_tokens = 4
repeat = 1
[[tasks]]
kind = "sustained"
seconds = 0.2
prompt_tokens = 8
new_tokens = 4
"""


def test_every_fleet_gives_the_same_rows(write_plan, tmp_path, rows_of, journal_of):
    pytest.importorskip("distributed", reason="needs the extra 'fleet'")
    plan = read_plan(write_plan(SHARDED))
    found = {}
    for on in ("local", "processes", "dask"):
        report = run_sweep(plan, tmp_path / on, on=on, workers=2)
        assert (report.done, report.failed, report.conversions, report.reused) == (2, 0, 2, 0)
        found[on] = rows_of(tmp_path / on)
        assert set(journal_of(tmp_path / on).values()) == {1}
    assert len(found["local"]) == 4
    assert found["processes"] == found["local"]
    assert found["dask"] == found["local"]


def test_shards_give_the_bits_of_the_whole(write_plan, tmp_path, rows_of):
    run_sweep(read_plan(write_plan(SHARDED)), tmp_path / "shards")
    run_sweep(read_plan(write_plan(SHARDED.replace("shards = 3", ""))), tmp_path / "whole")
    shards, whole = rows_of(tmp_path / "shards"), rows_of(tmp_path / "whole")
    figures = shards["llama", "plain", "w8-round", "litert", "here", "sharded"][2]
    assert figures["positions"] == 126  # 130 tokens in windows of 40, whose first tokens are not scored
    assert figures["kl_nats"] > 0
    assert figures["kl_p99_nats"] > figures["kl_nats"]
    for place, (status, _, mine) in whole.items():
        other = shards[place][2]
        assert status == "done"
        assert {n: v for n, v in mine.items() if n != "threads"} == {
            n: v for n, v in other.items() if n != "threads"
        }


def test_every_kind_of_task(write_plan, tmp_path, rows_of):
    plan = read_plan(write_plan(ALL_KINDS, recipes='["f32"]'))
    report = run_sweep(plan, tmp_path / "out")
    assert (report.done, report.failed) == (3, 0)
    rows = rows_of(tmp_path / "out")
    assert rows["llama", "plain", "f32", "litert", "here", "prove"][2]["perplexity_ratio"] == pytest.approx(1)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "kept_share" in html
    assert "decode_tokens_per_s" in html


def test_a_second_run_does_nothing_and_a_longer_plan_only_what_is_new(
    write_plan, tmp_path, journal_of, rows_of
):
    out = tmp_path / "out"
    run_sweep(read_plan(write_plan()), out)
    before, journal = rows_of(out), journal_of(out)
    assert run_sweep(read_plan(write_plan()), out).reused == 4
    assert (rows_of(out), journal_of(out)) == (before, journal)
    longer = run_sweep(read_plan(write_plan(recipes='["f32", "w8-round", "w4b32-round"]')), out)
    assert (longer.reused, longer.done) == (4, 3)
    assert {key: n for key, n in journal_of(out).items() if key in journal} == journal
    shorter = run_sweep(read_plan(write_plan(recipes='["f32"]')), out)
    assert (shorter.reused, len(rows_of(out))) == (2, 2)


def test_failures_are_rows_and_the_rest_is_done(write_plan, tmp_path, rows_of):
    """A source that is not there, a recipe that no file names, a window that does not fit the context."""
    tasks = write_plan().read_text(encoding="utf-8")
    tasks = tasks[tasks.index("[[tasks]]") :] + (
        '\n[[tasks]]\nname = "wide"\nkind = "evaluate"\ntext = "text.txt"\nwindow = 4096\n'
    )
    path = write_plan(tasks, recipes='["f32", "p4"]')
    text = path.read_text(encoding="utf-8").replace(
        '[{ name = "llama"', '[{ name = "gone", path = "gone.gguf" }, { name = "llama"'
    )
    path.write_text(text, encoding="utf-8")
    report = run_sweep(read_plan(path), tmp_path / "out")
    assert (report.done, report.failed, report.conversions, report.not_converted) == (1, 7, 4, 3)
    rows = rows_of(tmp_path / "out")
    place = ("llama", "plain", "f32", "litert", "here")
    assert rows[*place, "evaluate"][0] == "done"
    assert rows[*place, "wide"][:2] == (
        "failed",
        "a window of 4096 tokens was asked for, expected 2 to 64",
    )
    assert rows["gone", "plain", "f32", "litert", "here", "evaluate"][1].startswith(
        "not converted: 'gone.gguf'"
    )
    assert all("\n" not in (error or "") for _, error, _ in rows.values())


def test_what_failed_is_done_again_when_asked(write_plan, tmp_path, rows_of, monkeypatch):
    from edgesdk.errors import DeviceError
    from edgesdk_converters.sweeps import carry_out

    plan, out = read_plan(write_plan(recipes='["f32"]')), tmp_path / "out"

    def fail(job, store):
        raise DeviceError("the device is on fire; put it out")

    with monkeypatch.context() as patch:
        patch.setitem(carry_out._KINDS, "evaluate", fail)
        assert run_sweep(plan, out).failed == 1
    assert run_sweep(plan, out).failed == 1
    assert "on fire" in rows_of(out)["llama", "plain", "f32", "litert", "here", "evaluate"][1]
    report = run_sweep(plan, out, retry_failed=True)
    assert (report.failed, report.done, report.reused) == (0, 1, 1)


def test_a_job_that_crashes_its_process_is_a_row(write_plan, tmp_path, rows_of, monkeypatch):
    """In a process of its own, which here is Python told to abort where the job begins."""
    crash = tmp_path / "site"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text(
        "import os, sys\nif any('\"evaluate\"' in a for a in sys.orig_argv): os.abort()\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(crash))
    plan = read_plan(write_plan(recipes='["f32"]'))
    report = run_sweep(plan, tmp_path / "out", on="processes", workers=1)
    assert (report.done, report.failed, report.not_converted) == (0, 1, 0)
    error = rows_of(tmp_path / "out")["llama", "plain", "f32", "litert", "here", "evaluate"][1]
    assert f"signal {signal.SIGABRT.value}" in error
    assert "3 tries" in error


def test_a_job_that_takes_too_long_is_a_row(write_plan, tmp_path, rows_of):
    tasks = '[[tasks]]\nkind = "sustained"\nseconds = 600\nprompt_tokens = 4\nnew_tokens = 4\n'
    plan = read_plan(write_plan(tasks, recipes='["f32"]', timeout_s="20"))
    report = run_sweep(plan, tmp_path / "out", on="processes", workers=1)
    assert report.failed == 1
    error = rows_of(tmp_path / "out")["llama", "plain", "f32", "litert", "here", "sustained"][1]
    assert error == "it did not end within 20.0 s"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to one process")
def test_an_interrupted_driver_ends_its_jobs(write_plan, tmp_path):
    """With SIGINT as a terminal leaves it: shells have what they start in the background ignore it."""
    tasks = '[[tasks]]\nkind = "sustained"\nseconds = 600\nprompt_tokens = 4\nnew_tokens = 4\n'
    plan, out = write_plan(tasks, recipes='["f32"]'), tmp_path / "out"
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edgesdk.cli.main import main; main(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "sweep", str(plan), str(out), "--on", "processes"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        begun, ends = [], time.monotonic() + 120
        while len(begun) < 2 and time.monotonic() < ends and driver.poll() is None:
            time.sleep(0.1)
            journal = out / "journal.jsonl"
            lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
            begun = [entry["pid"] for entry in map(json.loads, lines) if entry["event"] == "begin"]
        driver.send_signal(signal.SIGINT)
        _, errors = driver.communicate(timeout=20)
    finally:
        driver.kill()
    assert (driver.returncode, errors.split()[-1]) == (1, "interrupted")
    assert not psutil.pid_exists(begun[1])


def test_one_driver_at_a_time(write_plan, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from edgesdk.bundle.file_lock import FileLock\n"
        "with FileLock(Path(sys.argv[1]) / 'driver.lock'): print('held', flush=True); time.sleep(60)\n"
    )
    (tmp_path / "out").mkdir()
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert child.stdout.readline().strip() == b"held"
    try:
        with pytest.raises(CapacityError, match="another process runs a sweep"):
            run_sweep(read_plan(write_plan()), tmp_path / "out")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("content", [b"no table", b"SQLite format 3\0" + bytes(100)])
def test_a_table_that_is_something_else(write_plan, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sweep.sqlite").write_bytes(content)
    with pytest.raises(BundleError, match="remove it and run again"):
        run_sweep(read_plan(write_plan()), tmp_path / "out")
    assert (tmp_path / "out" / "sweep.sqlite").read_bytes() == content


@pytest.mark.parametrize("on", ["ray", "dask:1", "process", "local=x"])
def test_there_is_no_such_fleet(write_plan, tmp_path, on):
    with pytest.raises(UnsupportedOption, match="there is no fleet"):
        run_sweep(read_plan(write_plan()), tmp_path / "out", on=on)


def test_a_damaged_outcome_is_done_again(write_plan, tmp_path, rows_of):
    from edgesdk_converters.sweeps.expand_plan import expand_plan
    from edgesdk_converters.sweeps.job_store import JobStore

    plan, out = read_plan(write_plan(recipes='["f32"]')), tmp_path / "out"
    run_sweep(plan, out)
    before = rows_of(out)
    job = list(expand_plan(plan))[1].jobs[-1]
    record = out / "outcomes" / job.key[:2] / f"{job.key}.json"
    record.write_text(record.read_text().replace("done", "doze"), encoding="utf-8")
    store = JobStore(out)
    assert store.read_outcome(job.key) is None
    assert run_job(job, store).status == "done"
    run_sweep(plan, out)
    assert rows_of(out) == before
    json.loads((out / "journal.jsonl").read_text(encoding="utf-8").splitlines()[-1])


@pytest.mark.real
def test_shards_of_the_real_model_give_the_bits_of_the_whole(smollm2_float):
    """Three loads of SmolLM2-135M score a window each; one load scores all three."""
    import edgesdk
    from edgesdk.evaluation.agreement import join_positions
    from edgesdk.evaluation.evaluate_text import score_windows, text_windows
    from edgesdk_converters.parity.prove import passages

    def scored(first, step):
        with edgesdk.load(smollm2_float, backend="litert", threads=1) as model:
            windows = text_windows(model, passages()[0] * 3, tokens=150, window=50)
            assert len(windows) == 3
            return score_windows(model, windows[first::step])

    assert join_positions([scored(i, 3) for i in range(3)]).report() == scored(0, 1).report()
