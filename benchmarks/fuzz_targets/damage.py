"""Odd input from whole input: bytes with flips, cuts and large numbers, JSON with values of other kinds."""

from __future__ import annotations

import atexit
import copy
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

TINY = Path(__file__).parents[2] / "tests" / "data" / "tiny"

_EDGES = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 65535, 65536)
_LARGE = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    "",
    "x",
    "..",
    "../x",
    "/x",
    "a/b",
    "\0",
    "\n",
    "é",
    "\ud800",
    "x" * 500,
    "[]",
    "{}",
    "-1",
    "NaN",
    "1e999",
)


@cache
def scratch() -> Path:
    """A folder of this process, in memory where the system has such; it goes away with the process."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="edgesdk-fuzz-", dir=memory if os.access(memory, os.W_OK) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def damaged(draw: random.Random, data: bytes, most: int = 4) -> bytes:
    """Bytes with one to `most` damages."""
    found = bytearray(data)
    for _ in range(draw.randint(1, most)):
        _BYTES[draw.randrange(len(_BYTES))](draw, found)
        if not found:
            found.append(0)
    return bytes(found)


def _flip(draw: random.Random, data: bytearray) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _set(draw: random.Random, data: bytearray) -> None:
    data[draw.randrange(len(data))] = draw.randrange(256)


def _number(draw: random.Random, data: bytearray) -> None:
    width = draw.choice((1, 2, 4, 8))
    value = draw.choice(_EDGES + _LARGE) % (1 << 8 * width)
    at = draw.randrange(len(data))
    data[at : at + width] = value.to_bytes(width, "little")[: len(data) - at]


def _cut(draw: random.Random, data: bytearray) -> None:
    del data[draw.randrange(len(data)) :]


def _remove(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.randint(1, 16)]


def _repeat(draw: random.Random, data: bytearray) -> None:
    at, to = draw.randrange(len(data)), draw.randrange(len(data))
    data[to:to] = data[at : at + draw.randint(1, 32)]


def _noise(draw: random.Random, data: bytearray) -> None:
    at = draw.randrange(len(data))
    data[at : at + 8] = draw.randbytes(8)


# Flips are what disks and lines do, so there are more of them.
_BYTES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    *(_flip, _flip, _flip, _set, _number, _number, _cut, _remove, _repeat, _noise),
)


def odd_json(draw: random.Random, document: object, most: int = 3) -> object:
    """A copy with one to `most` values, keys or items of another kind."""
    found = copy.deepcopy(document)
    for _ in range(draw.randint(1, most)):
        places = list(_places(found))
        if not places:
            return _odd_value(draw)
        holder, key = draw.choice(places)
        kind = draw.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[draw.choice(_TEXTS)] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.append(holder[key])
        elif kind == 3 and isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] += draw.choice((-1, 1))
        elif kind == 4:
            other, place = draw.choice(places)
            holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = _odd_value(draw)
    return found


def _places(value: object) -> Iterator[tuple[dict | list, str | int]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def _odd_value(draw: random.Random) -> object:
    kind = draw.randrange(8)
    if kind == 0:
        return draw.choice(_EDGES + _LARGE) * draw.choice((1, -1))
    if kind == 1:
        return draw.choice((0.5, -0.0, 1e300, 1e-300, float("inf"), float("nan"), 1e16))
    if kind == 2:
        return draw.choice(_TEXTS)
    if kind == 3:
        return draw.choice((None, True, False))
    if kind == 4:
        return [draw.choice(_EDGES) for _ in range(draw.randrange(6))]
    if kind == 5:
        return {draw.choice(_TEXTS): draw.choice(_EDGES)}
    return draw.choice(([], {}, [[]], [None], {"": {}}))
