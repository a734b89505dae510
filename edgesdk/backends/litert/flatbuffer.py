"""Reads tables, vectors and strings of a flatbuffer, every offset checked before it is followed.

The format is that of flatbuffers.dev, "FlatBuffer Internals". It follows what it is asked for and knows no
schema; a table's fields are numbered as in one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_UOFFSET = struct.Struct("<I")
_SOFFSET = struct.Struct("<i")
_VTABLE = struct.Struct("<HH")
_SCALARS = {code: struct.Struct(f"<{code}") for code in "?bBhHiIqQf"}
_MOST_FIELDS = 64

_MOST_WORK = 1_000_000
"""Tables, and one more for every `_ELEMENTS` numbers, read of a file; a model of 30 layers has 15,000.
Offsets may lead to one place many times: without a limit a small file could ask for any amount of work."""

_ELEMENTS = 256


class FlatbufferError(ValueError):
    """Something lies outside the file, or where it cannot."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: where it begins, its size, and where its fields lie in it (0: absent)."""

    at: int
    size: int
    fields: tuple[int, ...]


class Flatbuffer:
    """A file in memory, or mapped."""

    def __init__(self, data: memoryview) -> None:
        """Takes bytes, which nobody may change."""
        self._data = data
        self._size = len(data)
        self._vtables: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._left = _MOST_WORK
        self._reserved: list[tuple[int, int]] = []
        self._low = self._high = 0

    def reserve(self, places: Iterable[tuple[int, int]], tables: Iterable[Table]) -> None:
        """Has nothing more be read of bytes that somebody will change.

        Args:
            places: where they begin and end.
            tables: what was read so far, beside the descriptions of tables: none of it may begin there.

        Raises:
            FlatbufferError: two of them overlap, or one of them and what was read.
        """
        places = sorted(places)
        if any(end > begin for (_, end), (begin, _) in pairwise(places)):
            raise FlatbufferError("two of its lists overlap")
        if not places:
            return
        self._reserved, self._low, self._high = places, places[0][0], places[-1][1]
        self.expect_free(0, 8)
        for table in tables:
            self.expect_free(table.at, 4)
        for at, (_, fields) in self._vtables.items():
            self.expect_free(at, 4 + 2 * len(fields))

    def expect_free(self, at: int, size: int) -> None:
        """Refuses to read what is reserved.

        Raises:
            FlatbufferError: some of these bytes are.
        """
        if at < self._high and at + size > self._low:
            for begin, end in self._reserved:
                if at < end and at + size > begin:
                    raise FlatbufferError("its list of graphs or of signatures is something else, too")

    def root(self, identifier: bytes) -> Table:
        """The root table.

        Raises:
            FlatbufferError: the file is another kind, or there is no table.
        """
        if self._size < 8 or bytes(self._data[4:8]) != identifier:
            raise FlatbufferError(f"it does not begin as a file of the kind {identifier.decode()}")
        return self._table(self._follow(0))

    def present(self, table: Table) -> list[int]:
        """Numbers of the fields that a table has."""
        return [number for number, at in enumerate(table.fields) if at]

    def scalar(self, table: Table, field: int, code: str, default: float = 0) -> int:
        """A number or truth value; `code` as in `struct`."""
        at = self._field(table, field)
        if at is None:
            return int(default)
        reader = _SCALARS[code]
        if at + reader.size > table.at + table.size:
            raise FlatbufferError(f"field {field} leaves its table")
        self.expect_free(at, reader.size)
        return int(reader.unpack_from(self._data, at)[0])

    def child(self, table: Table, field: int) -> Table | None:
        """A table that a field refers to; None where it is absent."""
        at = self._field(table, field)
        return None if at is None else self._table(self._follow(self._inside(table, at)))

    def tables(self, table: Table, field: int, most: int) -> list[Table]:
        """A vector of tables, of `most` at most; empty where it is absent."""
        start, count = self.vector(table, field, 4)
        if count > most:
            raise FlatbufferError(f"{count} tables in field {field}, expected {most} at most")
        self._spend(count)
        return [self._table(self._follow(start + 4 * i)) for i in range(count)]

    def vector(self, table: Table, field: int, width: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are; (0, 0) where it is absent."""
        at = self._field(table, field)
        if at is None:
            return 0, 0
        at = self._follow(self._inside(table, at))
        if at % 4 or at + 4 > self._size:
            raise FlatbufferError("a vector lies outside the file")
        count = _UOFFSET.unpack_from(self._data, at)[0]
        if count * width > self._size - at - 4:
            raise FlatbufferError("a vector ends outside the file")
        if width > 4 and (at + 4) % width:
            raise FlatbufferError("a vector is not aligned")
        self.expect_free(at, 4 + count * width)
        return at + 4, count

    def integers(self, table: Table, field: int, most: int) -> tuple[int, ...]:
        """A vector of int32, of `most` at most."""
        start, count = self.vector(table, field, 4)
        if count > most:
            raise FlatbufferError(f"{count} numbers in field {field}, expected {most} at most")
        self._spend(count // _ELEMENTS)
        return struct.unpack_from(f"<{count}i", self._data, start)

    def array(self, start: int, count: int, dtype: str) -> NDArray[np.generic]:
        """Elements whose place `vector` gave, not copied."""
        self._spend(count // _ELEMENTS)
        return np.frombuffer(self._data, np.dtype(dtype).newbyteorder("<"), count, start)

    def text(self, table: Table, field: int, most: int = 1024) -> str:
        """A string; empty where it is absent."""
        start, count = self.vector(table, field, 1)
        if count > most or (start + count >= self._size and start):
            raise FlatbufferError("a name is too long")
        if start and self._data[start + count]:
            raise FlatbufferError("a name does not end")
        try:
            return str(self._data[start : start + count], "utf-8")
        except UnicodeDecodeError as error:
            raise FlatbufferError("a name is not UTF-8") from error

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise FlatbufferError("its tables refer to one another far more often than any model's")

    def _field(self, table: Table, field: int) -> int | None:
        inner = table.fields[field] if field < len(table.fields) else 0
        return table.at + inner if inner else None

    def _inside(self, table: Table, at: int) -> int:
        if at + 4 > table.at + table.size:
            raise FlatbufferError("an offset leaves its table")
        return at

    def _follow(self, at: int) -> int:
        """Where the offset at a place leads: always forward, and into the file."""
        if at % 4 or at + 4 > self._size:
            raise FlatbufferError("an offset lies outside the file")
        self.expect_free(at, 4)
        step = _UOFFSET.unpack_from(self._data, at)[0]
        if step < 4 or at + step > self._size - 4:
            raise FlatbufferError("an offset leads out of the file")
        return at + int(step)

    def _table(self, at: int) -> Table:
        if at % 4 or at + 4 > self._size:
            raise FlatbufferError("a table lies outside the file")
        self.expect_free(at, 4)
        where = at - _SOFFSET.unpack_from(self._data, at)[0]
        known = self._vtables.get(where)
        if known is None:
            known = self._vtables[where] = self._vtable(where)
        size, fields = known
        if at + size > self._size:
            raise FlatbufferError("a table ends outside the file")
        return Table(at, size, fields)

    def _vtable(self, at: int) -> tuple[int, tuple[int, ...]]:
        if at < 0 or at % 2 or at + 4 > self._size:
            raise FlatbufferError("the description of a table lies outside the file")
        own, size = _VTABLE.unpack_from(self._data, at)
        count = (own - 4) // 2
        if own < 4 or own % 2 or count > _MOST_FIELDS or at + own > self._size or size < 4:
            raise FlatbufferError("the description of a table is broken")
        self.expect_free(at, own)
        fields = struct.unpack_from(f"<{count}H", self._data, at + 4)
        if any(place and not 4 <= place < size for place in fields):
            raise FlatbufferError("a field lies outside its table")
        return size, fields
