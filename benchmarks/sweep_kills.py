"""Kills drivers, workers and jobs of a sweep at random moments: it goes on, nothing is lost or done twice.

    python benchmarks/sweep_kills.py --on dask --rounds 20

A sweep of 24 cells (two checkpoints, two recipes, two targets, three tasks, one of them in two shards) is run
once in one process. A round runs it with two workers in an empty folder, with SIGKILL for the driver, for a
worker of Dask or for the process of a job, at random moments; a killed driver is started again. At the end

- every row is that of the run in one process, but for figures of time;
- no job has ended twice, and none that has ended is begun again;
- what belonged to a killed driver is gone within ten seconds, or was done.

Linux only: it looks for processes by their command lines.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import psutil

TINY = Path(__file__).parents[1] / "tests" / "data" / "tiny"
PLAN = """
name = "kills"
context = 64
sources = [{{ name = "llama", path = "{tiny}/llama" }}, {{ name = "qwen2", path = "{tiny}/qwen2" }}]
recipes = ["f32", "w8-round"]
targets = ["litert", "onnx-step"]
devices = [{{ name = "here", threads = 1 }}]
[[tasks]]
kind = "evaluate"
text = "text.txt"
tokens = 130
window = 40
shards = 2
[[tasks]]
kind = "prove"
[[tasks]]
kind = "bench"
prompt_tokens = 8
new_tokens = 4
repeat = 1
"""
SMALL = PLAN.replace(', "w8-round"', "").replace(', "onnx-step"', "")
"""Six cells on two bundles: for tests."""
_STEADY = "perplexity", "kl_", "top1", "size_", "positions", "variant", "backend"


def write_plan(folder: Path, plan: str) -> Path:
    from edgesdk_converters.parity.prove import passages

    (folder / "text.txt").write_text("\n\n".join(passages()), encoding="utf-8")
    path = folder / "plan.toml"
    path.write_text(plan.format(tiny=TINY.as_posix()), encoding="utf-8")
    return path


def start(plan: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgesdk", "sweep", str(plan), str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def rows_of(out: Path) -> dict[tuple[str, ...], tuple[str, dict[str, object]]]:
    """Status and steady figures of each row."""
    connection = sqlite3.connect(out / "sweep.sqlite")
    query = "SELECT source, transform, recipe, target, device, task, status, figures FROM cells"
    found = {}
    for *place, status, figures in connection.execute(query):
        steady = {n: v for n, v in json.loads(figures).items() if n.startswith(_STEADY)}
        found[tuple(place)] = (status, steady)
    connection.close()
    return found


def check_journal(out: Path) -> int:
    """How many times a job was begun again; raises where one was done twice."""
    ends: Counter[str] = Counter()
    begins: Counter[str] = Counter()
    for line in (out / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["event"] == "end":
            ends[entry["key"]] += 1
        else:
            begins[entry["key"]] += 1
            if ends[entry["key"]]:
                raise SystemExit(f"{entry['key']} was begun after it had ended")
    if max(ends.values()) > 1:
        raise SystemExit("a job has ended twice")
    return sum(begins.values()) - len(begins)


def victims(driver: subprocess.Popen[bytes], kind: str) -> list[psutil.Process]:
    """Processes of a kind that belong to a driver."""
    if kind == "driver":
        return [psutil.Process(driver.pid)]
    mark = "run_job" if kind == "job" else "spawn_main"
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if any(mark in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def one_round(
    plan: Path, out: Path, on: str, chance: random.Random, lasts_s: float, kills: int
) -> Counter[str]:
    """A sweep with so many kills; returns how many of each kind hit something."""
    killed: Counter[str] = Counter()
    kinds = ["driver", "job"] + (["worker"] if on == "dask" else [])
    while True:
        driver = start(plan, out, "--on", on, "--workers", "2")
        belonging: list[psutil.Process] = []
        while sum(killed.values()) < kills and driver.poll() is None:
            # Within a driver's time one kill at least, else there is no moment that is not hit.
            ends = time.monotonic() + chance.random() * lasts_s / kills
            while time.monotonic() < ends and driver.poll() is None:
                time.sleep(0.01)
            kind = chance.choice(kinds)
            try:
                there = victims(driver, kind)
                if there and driver.poll() is None:
                    belonging = psutil.Process(driver.pid).children(recursive=True)
                    os.kill(chance.choice(there).pid, signal.SIGKILL)
                    killed[kind] += 1
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
            if kind == "driver":
                break
        _, errors = driver.communicate()
        if driver.returncode == -signal.SIGKILL:
            _, alive = psutil.wait_procs(belonging, 10)
            if alive:
                raise SystemExit(f"a killed driver leaves {[' '.join(p.cmdline()[:4]) for p in alive]}")
            continue
        if driver.returncode:
            raise SystemExit(f"the driver ended with {driver.returncode}: {errors.decode()[-500:]}")
        return killed


@click.command()
@click.option("--on", type=click.Choice(["dask", "processes"]), default="dask", show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--kills", default=3, show_default=True, help="kills in each round")
@click.option("--seed", default=0, show_default=True)
@click.option("--small", is_flag=True, help="six cells in place of 24")
def main(on: str, rounds: int, kills: int, seed: int, small: bool) -> None:
    """Runs rounds and prints what was killed, as JSON."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ.setdefault("EDGESDK_CACHE", str(folder / "cache"))
        click.echo(json.dumps(run(folder, on, rounds, kills, chance, SMALL if small else PLAN)))


def run(
    folder: Path, on: str, rounds: int, kills: int, chance: random.Random, text: str
) -> dict[str, object]:
    """All rounds; what they say is checked."""
    plan = write_plan(folder, text)
    alone = start(plan, folder / "alone")
    _, errors = alone.communicate()
    if alone.returncode:
        raise SystemExit(f"the run in one process failed: {errors.decode()[-500:]}")
    expected = rows_of(folder / "alone")
    lasts_s, killed, again = 20.0, Counter[str](), 0
    for number in range(rounds):
        out = folder / f"round-{number}"
        started = time.monotonic()
        killed += one_round(plan, out, on, chance, lasts_s, kills)
        lasts_s = (time.monotonic() - started) / 2
        if rows_of(out) != expected:
            raise SystemExit(f"round {number} has other rows than the run in one process")
        again += check_journal(out)
        click.echo(f"round {number + 1} of {rounds}: {dict(killed)}, {again} begun again", err=True)
    return {"on": on, "rounds": rounds, "cells": len(expected), "killed": dict(killed), "begun_again": again}


if __name__ == "__main__":
    main()
