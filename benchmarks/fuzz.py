"""Throws odd input at every parser, and counts how it ends: taken, refused, or a fault of ours.

    python benchmarks/fuzz.py [--target NAME] [--count 2000] [--seconds S] [--seed 0] [--json FILE]

Targets are the functions of `fuzz_targets/`. Each runs in a process of its own, so that a crash is counted
and the rest goes on; an input that takes longer than ten seconds is a hang. An input is made of its target's
name and a number, which the report names: `--target NAME --seed NUMBER --count 1` makes it again. Status 1
if anything was found.
"""

import dataclasses
import faulthandler
import importlib
import json
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, MutableSequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import click
import fuzz_targets

from edgesdk.errors import EdgeError

HANG_S = 10
STUCK_S = 60
"""Native code hears no alarm: a process that says nothing for this long is ended from outside."""

SETUP_S = 240
MOST_EXAMPLES = 5

Target = Callable[[random.Random], None]
TAKEN, REFUSED, OTHER, WRONG, HANG, CRASH = "taken", "refused", "other error", "wrong", "hang", "crash"
FAULTS = (OTHER, WRONG, HANG, CRASH)
OUTCOMES = (TAKEN, REFUSED, *FAULTS)

Board = MutableSequence[int]
"""Shared with a child: the number of its input, then how many there were of each outcome."""


class Hang(BaseException):
    """An input takes too long."""


@dataclasses.dataclass
class Found:
    """What became of one target's inputs."""

    target: str
    seconds: float = 0.0
    outcomes: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: list[str] = dataclasses.field(default_factory=list)

    @property
    def inputs(self) -> int:
        """How many there were."""
        return sum(self.outcomes.values())

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not any(self.outcomes[fault] for fault in FAULTS)

    def figures(self) -> dict[str, object]:
        """For a file; `dataclasses.asdict` counts a Counter's pairs (Python 3.11)."""
        return {**vars(self), "outcomes": dict(+self.outcomes)}


def find_targets() -> dict[str, Target]:
    """Every target by name."""
    found: dict[str, Target] = {}
    for module in pkgutil.iter_modules(fuzz_targets.__path__, "fuzz_targets."):
        found.update(getattr(importlib.import_module(module.name), "TARGETS", {}))
    return found


def try_one(target: Target, name: str, number: int) -> tuple[str, str]:
    """Makes one input and tries it; the outcome, and what to say of a fault."""
    draw = random.Random(f"{name}:{number}")
    try:
        target(draw)
    except EdgeError as error:
        message = str(error)
        if "\n" in message or len(message) > 2000:
            return OTHER, f"a message of {len(message)} characters or several lines"
        return REFUSED, ""
    except AssertionError:
        return WRONG, traceback.format_exc(limit=-1).splitlines()[-1] or "wrong"
    except Hang:
        return HANG, f"more than {HANG_S} s"
    except BaseException as error:  # a native library's panic is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            OTHER,
            f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {str(error)[:120]!r}",
        )
    return TAKEN, ""


def _alarm(number: int, frame: object) -> None:
    raise Hang


def _work(board: Board, name: str, start: int, stop: int, seconds: float, pipe: Connection) -> None:
    """Tries inputs. Numbers go to the board, where they are still read after a crash."""
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a crash prints; the parent says which input it was
    signal.signal(signal.SIGALRM, _alarm)
    target = find_targets()[name]
    try_one(target, name, -1)  # makes what is made once
    pipe.send(("ready", ""))
    until = time.monotonic() + seconds
    for number in range(start, stop):
        if time.monotonic() >= until:
            break
        board[0] = number
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        outcome, reason = try_one(target, name, number)
        signal.setitimer(signal.ITIMER_REAL, 0)
        board[1 + OUTCOMES.index(outcome)] += 1
        if reason:
            pipe.send(("fault", f"{number}: {outcome}: {reason}"))
    pipe.send(("end", ""))


class Runner:
    """One target on its way through its inputs, in one process after another."""

    def __init__(self, name: str, seed: int, count: int, seconds: float | None) -> None:
        self.found = Found(name)
        self._next, self._stop = seed, seed + count
        self._seconds = seconds
        self._spent = 0.0
        self._ready: float | None = None
        self._context = multiprocessing.get_context("spawn")
        self._limit = SETUP_S
        self._launch()

    def _launch(self) -> None:
        left = float("inf") if self._seconds is None else max(0.0, self._seconds - self._spent)
        self.pipe, theirs = self._context.Pipe(duplex=False)
        self._board: Board = self._context.RawArray("q", 1 + len(OUTCOMES))
        self._board[0] = self._seen = self._next - 1
        self._process = self._context.Process(
            target=_work,
            args=(self._board, self.found.target, self._next, self._stop, left, theirs),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._heard, self._limit, self._ready = time.monotonic(), SETUP_S, None

    def step(self, ready: bool) -> bool:
        """Reads one message, or looks whether the process is alive; False when the target is through."""
        if ready:
            try:
                return self._read(*self.pipe.recv())
            except EOFError:
                return self._lost(CRASH)
        if time.monotonic() - self._heard > self._limit and self._board[0] == self._seen:
            self._process.kill()
            return self._lost(HANG)
        if self._board[0] != self._seen:
            self._seen, self._heard = self._board[0], time.monotonic()
        return True

    def _read(self, kind: str, value: str) -> bool:
        self._heard = time.monotonic()
        if kind == "ready":
            self._limit, self._ready = STUCK_S, time.monotonic()
        elif kind == "fault" and len(self.found.examples) < MOST_EXAMPLES:
            self.found.examples.append(value)
        if kind != "end":
            return True
        self._settle()
        return False

    def _lost(self, outcome: str) -> bool:
        """The process is gone in the middle of an input: go on behind it."""
        self._settle()
        number = self._board[0]
        if number < self._next:  # it never began
            raise click.ClickException(
                f"target {self.found.target!r} does not start (exit {self._process.exitcode})"
            )
        self.found.outcomes[outcome] += 1
        if len(self.found.examples) < MOST_EXAMPLES:
            self.found.examples.append(f"{number}: {outcome}: exit status {self._process.exitcode}")
        self._next = number + 1
        if self._next >= self._stop:
            return False
        self._launch()
        return True

    def _settle(self) -> None:
        self._process.join()
        self.pipe.close()
        self.found.outcomes.update(dict(zip(OUTCOMES, self._board[1:], strict=True)))
        if self._ready is not None:
            self._spent += time.monotonic() - self._ready
        self.found.seconds = self._spent


def fuzz(names: list[str], *, seed: int, count: int, seconds: float | None, workers: int) -> list[Found]:
    """Tries `count` inputs of every target.

    Args:
        names: of the targets.
        seed: number of the first input.
        count: inputs of each.
        seconds: most for each target, its setup not counted; None for no limit.
        workers: processes at a time.
    """
    waiting, running, done = list(names), [], []
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(Runner(waiting.pop(0), seed, count, seconds))
        ready = wait([runner.pipe for runner in running], timeout=1)
        for runner in list(running):
            if not runner.step(runner.pipe in ready):
                running.remove(runner)
                done.append(runner.found)
                print(f"{runner.found.target}: {runner.found.inputs} inputs", file=sys.stderr, flush=True)
    return sorted(done, key=lambda found: names.index(found.target))


def show(found: list[Found]) -> None:
    """Prints a table, and how to make again what was found."""
    columns = OUTCOMES
    print(f"{'target':26} {'inputs':>9} {'per s':>7} " + " ".join(f"{name:>11}" for name in columns))
    total: Counter[str] = Counter()
    for one in found:
        total += one.outcomes
        rate = one.inputs / one.seconds if one.seconds else 0
        cells = " ".join(f"{one.outcomes[name]:>11}" for name in columns)
        print(f"{one.target:26} {one.inputs:>9} {rate:>7.0f} {cells}")
    print(
        f"{'all':26} {sum(total.values()):>9} {'':>7} " + " ".join(f"{total[name]:>11}" for name in columns)
    )
    for one in found:
        for example in one.examples:
            print(f"  {one.target} {example}")


@click.command(help=__doc__)
@click.option("--target", "names", multiple=True, help="One target; several times for several. Default: all.")
@click.option("--count", default=2000, show_default=True, help="Inputs of each target.")
@click.option("--seconds", type=float, help="Most seconds for each target.")
@click.option("--seed", default=0, show_default=True, help="Number of the first input.")
@click.option("--workers", default=2, show_default=True, help="Targets at a time.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the figures there.")
def main(
    names: tuple[str, ...], count: int, seconds: float | None, seed: int, workers: int, out: Path | None
) -> None:
    known = find_targets()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"target {unknown[0]!r} is unknown; expected {', '.join(known)}")
    found = fuzz(list(names or known), seed=seed, count=count, seconds=seconds, workers=workers)
    show(found)
    if out is not None:
        out.write_text(json.dumps([one.figures() for one in found], indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(one.sound for one in found) else 1)


if __name__ == "__main__":
    main()
