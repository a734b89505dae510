"""Kills `pull`, `rm` and `alias` at random moments and looks at the shelf after each: it is whole.

    python benchmarks/shelf_kills.py --rounds 100

A round starts one command in a process of its own and ends it with SIGKILL, after a random time or right
before the n-th change that it makes to the shelf's file system (`sys.addaudithook`), n random. Then the
shelf is listed as `edgesdk list` does it, and

- every bundle on it opens, and all its files have their digests;
- what the command was not about is there unchanged;
- what it was about is there as before or as wanted: a bundle that is replaced never is away;
- every alias stands for a bundle that is there;
- beside that there is nothing but lock files.

`--every alias,rm,replace` goes through all changes that these make, one after the other; `replace` is a pull
of what is there.
POSIX only: it forks, so that a round does not wait for imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

TINY = Path(__file__).parents[1] / "tests" / "data" / "tiny"
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink"}
_NAMES = ("a", "b", "c")

Command = tuple[str, ...]
State = dict[str, object]


@click.command(help="Kills pull, rm and alias at random moments and checks the shelf after each.")
@click.option("--rounds", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--every", metavar="LIST", help="All changes that alias, rm and replace make, in turn.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, every: str | None, seed: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(EDGESDK_MODELS=f"{folder}/shelf", EDGESDK_CACHE=f"{folder}/cache")
        _import_all()
        killed = _every(every.split(",")) if every is not None else _at_random(rounds, random.Random(seed))
    if as_json:
        click.echo(json.dumps(killed))
    else:
        click.echo(f"{sum(killed.values())} kills, the shelf whole after each: {dict(killed)}")


def pull(name: str, model: str = "llama", *more: str) -> Command:
    options = ("--recipe", "f32", "--target", "litert", "--context", "32")
    return ("pull", str(TINY / model), "--name", name, *options, *more)


def run(command: Command, *, at_change: int | None = None, after_s: float | None = None) -> tuple[bool, int]:
    """Runs a command in a child, and kills it.

    Args:
        command: of the command line.
        at_change: which change of the shelf it does not live to make; None to let it be.
        after_s: seconds that it has; None for all it needs.

    Returns:
        Whether it was killed, and how many changes it made if not.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become(command, at_change, writing)
    os.close(writing)
    if after_s is not None:
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        changes = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True, 0
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return False, int(changes or b"0")


def look() -> State:
    """What is on the shelf, after everything was checked.

    Raises:
        SystemExit: the shelf is not whole.
    """
    from edgesdk.bundle.integrity import check_integrity
    from edgesdk.bundle.reader import open_bundle
    from edgesdk.bundle.shelf import shelf_folder
    from edgesdk.bundle.shelf_aliases import ALIASES_NAME, read_aliases
    from edgesdk.bundle.shelf_models import shelved_models

    state: State = {}
    for model in shelved_models():
        if model.damage is not None:
            raise SystemExit(f"{model.name} is damaged: {model.damage}")
        bundle = open_bundle(model.path)
        check_integrity(bundle, full=True)
        state[model.name] = bundle.manifest.name
    aliases = read_aliases(shelf_folder())
    for alias, target in aliases.items():
        if target not in state:
            raise SystemExit(f"the alias {alias} stands for {target}, which is not there")
    with contextlib.suppress(FileNotFoundError):
        left = {e.name for e in os.scandir(shelf_folder())} - state.keys() - {ALIASES_NAME}
        left = {name for name in left if not (name.startswith(".edgesdk-") and name.endswith(".lock"))}
        if left:
            raise SystemExit(f"the shelf has {sorted(left)} besides its models")
    return {**state, "aliases": aliases}


def _at_random(rounds: int, chance: random.Random) -> Counter[str]:
    """Kills so many commands, each chosen to do something to what is there."""
    killed: Counter[str] = Counter()
    lasts: dict[str, tuple[int, float]] = {}
    while sum(killed.values()) < rounds:
        before = look()
        there = [name for name in _NAMES if name in before]
        kinds = ["pull", *(["replace", "rm", "alias"] if there else [])]
        kind = chance.choice(kinds)
        target = chance.choice(there) if kind != "pull" else chance.choice(_NAMES)
        if kind == "pull" and target in there:
            continue
        model = "qwen2" if before.get(target) == "llama" else "llama"
        command = {
            "pull": pull(target, "llama"),
            "replace": pull(target, model, "--again"),
            "rm": ("rm", target),
            "alias": ("alias", "x", target),
        }[kind]
        if kind not in lasts or chance.random() < 0.1:  # whole, to know how long it is, and to have models
            started = time.perf_counter()
            _, changes = run(command)
            lasts[kind] = (changes, time.perf_counter() - started)
            look()
            continue
        changes, seconds = lasts[kind]
        if chance.random() < 0.5:
            done, _ = run(command, at_change=chance.randrange(max(changes, 1)))
        else:
            done, _ = run(command, after_s=chance.random() * seconds)
        _compare(before, look(), kind, target, model)
        killed[kind] += done
    return killed


def _every(kinds: Sequence[str]) -> Counter[str]:
    """Kills each command before each of its changes."""
    killed: Counter[str] = Counter()
    run(pull("a"))
    run(("alias", "x", "a"))
    shelf = Path(os.environ["EDGESDK_MODELS"])
    spare = shelf.parent / "spare"
    shutil.copytree(shelf / "a", spare)
    shutil.copytree(spare, shelf / "b")
    commands = {"alias": ("alias", "y", "a"), "replace": pull("a", "qwen2", "--again"), "rm": ("rm", "a")}
    for kind in kinds:
        command, place = commands[kind], 0
        while True:
            before = look()
            if "a" not in before:  # the last one got so far
                shutil.copytree(spare, shelf / "a")
                run(("alias", "x", "a"))
                before = look()
            done, _ = run(command, at_change=place)
            _compare(before, look(), kind, "a", "qwen2")
            if not done:
                break
            killed[kind] += 1
            place += 1
    return killed


def _compare(before: State, after: State, kind: str, target: str, model: str) -> None:
    allowed: dict[str, Sequence[object]] = {
        "pull": (None, "llama"),
        "replace": (before.get(target), model),
        "rm": (before.get(target), None),
        "alias": (before.get(target),),
    }
    if after.get(target) not in allowed[kind]:
        raise SystemExit(f"after {kind} {target} is {after.get(target)}, expected one of {allowed[kind]}")
    for name in _NAMES:
        if name != target and before.get(name) != after.get(name):
            raise SystemExit(f"{kind} of {target} changed {name}")


def _become(command: Command, at_change: int | None, writing: int) -> None:
    """Turns a forked child into the command; never returns."""
    from edgesdk.cli.main import main as edgesdk

    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    changes = 0
    shelf = os.environ["EDGESDK_MODELS"]

    def count(event: str, values: tuple[object, ...]) -> None:
        nonlocal changes
        if not _is_change(event, values, shelf):
            return
        if changes == at_change:
            os.kill(os.getpid(), signal.SIGKILL)
        changes += 1

    sys.addaudithook(count)
    status = 70
    try:
        edgesdk(list(command))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os.write(writing, str(changes).encode())
        os._exit(status)


def _is_change(event: str, values: tuple[object, ...], shelf: str) -> bool:
    if event == "open":
        path, _, flags = values
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and _is_in(path, shelf)
    return event in _CHANGES and any(_is_in(value, shelf) for value in values[:2])


def _is_in(path: object, shelf: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(shelf)


def _import_all() -> None:
    """What children would import, each anew."""

    for name in ("ai_edge_litert.interpreter", "gguf"):
        __import__(name)


if __name__ == "__main__":
    main()
