"""A LiteRT file in memory with some of its signatures only, so that LiteRT prepares no others.

LiteRT prepares every signature that a file lists, used or not: it reads each graph in a time that grows with
the square of its size, and looks at every scale of weights in blocks three times
(docs/decisions/0045-forms-by-processor.md). So the file is mapped privately and the two lists, of graphs
and of signatures, are shortened in that view. The file stays as it is, and so do all its other bytes: what is
copied are the few pages that hold the lists.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from edgesdk.backends.litert.flatbuffer import Flatbuffer, FlatbufferError, Table
from edgesdk.backends.say_damage import say_damage

_IDENTIFIER = b"TFL3"
_GRAPHS, _SIGNATURES, _KEY, _GRAPH = 2, 7, 2, 4  # fields of schema.fbs
_MOST = 256
_OFFSET = struct.Struct("<I")


def signature_names(path: Path, file: BinaryIO | None = None) -> list[str]:
    """Names of a file's signatures, in order.

    Args:
        path: the file.
        file: the same file where it is open.

    Raises:
        BundleError: the file is damaged.
    """
    with (
        say_damage(path, FlatbufferError),
        nullcontext(file) if file else path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        flat = Flatbuffer(data)
        return [flat.text(table, _KEY) for table in _signatures(flat)]


def keep_signatures(path: Path, names: Collection[str], file: BinaryIO | None = None) -> mmap.mmap:
    """Maps a file as if it had no other signatures than these, in their order in the file.

    Args:
        path: a file that has passed `check_litert_file`.
        names: of signatures, each with a graph of its own; those that the file does not have count for
            nothing.
        file: the same file where it is open, which stays so: by its path another may be found meanwhile.

    Raises:
        BundleError: the file is damaged.
    """
    with say_damage(path, FlatbufferError), nullcontext(file) if file else path.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_COPY)
        with memoryview(mapped) as data:
            _shorten(Flatbuffer(data), data, names)
    return mapped


def changed_places(flat: Flatbuffer) -> list[tuple[int, int]]:
    """Where bytes begin and end that `keep_signatures` may change: a check sees to it that they are no more.

    Raises:
        FlatbufferError: the lists are not there, or lie outside the file.
    """
    root = flat.root(_IDENTIFIER)
    lists = [flat.vector(root, field, 4) for field in (_GRAPHS, _SIGNATURES)]
    places = [(start - 4, start + 4 * count) for start, count in lists if start]
    for table in _signatures(flat):
        if flat.scalar(table, _GRAPH, "I"):
            at = table.at + table.fields[_GRAPH]
            places.append((at, at + 4))
    return places


def _signatures(flat: Flatbuffer) -> list[Table]:
    return flat.tables(flat.root(_IDENTIFIER), _SIGNATURES, _MOST)


def _shorten(flat: Flatbuffer, data: memoryview, names: Collection[str]) -> None:
    root = flat.root(_IDENTIFIER)
    lists = [flat.vector(root, field, 4) for field in (_GRAPHS, _SIGNATURES)]
    # A graph's number is left out of its signature where it is 0: that graph must stay the first.
    kept = sorted(
        (flat.scalar(table, _GRAPH, "I"), place, table)
        for place, table in enumerate(_signatures(flat))
        if flat.text(table, _KEY) in names
    )
    if not kept or kept[-1][0] >= lists[0][1]:
        raise FlatbufferError("a signature that is wanted has no graph")
    if len({graph for graph, _, _ in kept}) < len(kept):
        raise FlatbufferError("two signatures have one graph")
    targets = [[at + _OFFSET.unpack_from(data, at)[0] for at in _places(*found)] for found in lists]
    for place, (graph, signature, table) in enumerate(kept):
        for (start, _), old, index in zip(lists, targets, (graph, signature), strict=True):
            at = start + 4 * place
            _OFFSET.pack_into(data, at, old[index] - at)
        if graph != place:
            _OFFSET.pack_into(data, table.at + table.fields[_GRAPH], place)
    for start, _ in lists:
        _OFFSET.pack_into(data, start - 4, len(kept))


def _places(start: int, count: int) -> range:
    return range(start, start + 4 * count, 4)
