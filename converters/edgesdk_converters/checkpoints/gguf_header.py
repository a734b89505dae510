"""Reads and checks the header of a GGUF file: metadata and where each tensor lies.

Nothing in the file is believed before it is compared with the file's size: counts, lengths and
offsets of a damaged or hostile file end in one clear line, not in an allocation. It does not know what
any key means. Follows the GGUF specification (ggml, docs/gguf.md), versions 2 and 3, little-endian;
arrays of arrays, which the format allows and no published file uses, are refused.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import CheckpointError, MissingExtra, quoted

Scalar = int | float | bool | str
MetadataValue = Scalar | list[int] | list[float] | list[bool] | list[str]

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32
_ALIGNMENTS = frozenset(1 << i for i in range(21))
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SMALLEST_PAIR = 8 + 4 + 1  # empty key, type, one byte
_SMALLEST_TENSOR = 8 + 4 + 8 + 4 + 8
# A Python object takes many times the bytes it has in the file, so the file's size alone bounds too
# little. The largest published files have some thousand tensors and 600,000 array items.
_MAX_TENSORS = _MAX_PAIRS = 1 << 16
_MAX_ITEMS = 1 << 23
_MAX_STRING_BYTES = 1 << 24
_MAX_NAME_BYTES = (1 << 16) - 1


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the file.

    Attributes:
        name: as stored.
        shape: row-major (the file stores the fastest axis first).
        type_name: ggml type.
        offset: of the data, from the start of the file.
        row_bytes: bytes of one row (the last axis).
        size_bytes: of the data.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    row_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key, tensors by name in file order."""

    metadata: Mapping[str, MetadataValue]
    tensors: Mapping[str, TensorEntry]


def read_gguf_header(path: Path) -> GgufHeader:
    """Parses a GGUF file's header.

    Raises:
        CheckpointError: the file is not GGUF, is truncated, or contradicts itself.
        MissingExtra: the gguf package, which knows the tensor types, is not installed.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:  # which mmap refuses
                raise CheckpointError(f"{path.name} is empty; expected a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Parser(path.name, data).parse()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


class _Parser:
    def __init__(self, name: str, data: mmap.mmap) -> None:
        self.name = name
        self.data = data
        self.size = len(data)
        self.at = 0
        self.items_left = _MAX_ITEMS

    def parse(self) -> GgufHeader:
        if self.data[:4] != MAGIC:
            found = bytes(self.data[:4])
            raise CheckpointError(f"{self.name} starts with {found!r}, expected {MAGIC!r}: not a GGUF file")
        self.at = 4
        version = self.number("I", "version")
        if version not in _VERSIONS:
            swapped = struct.unpack("<I", struct.pack(">I", int(version)))[0] in _VERSIONS
            what = "is big-endian" if swapped else f"has GGUF version {version}"
            raise CheckpointError(f"{self.name} {what}; expected little-endian version 2 or 3")
        tensors = self.count("tensor count", _SMALLEST_TENSOR, _MAX_TENSORS)
        pairs = self.count("metadata count", _SMALLEST_PAIR, _MAX_PAIRS)
        metadata: dict[str, MetadataValue] = {}
        for _ in range(pairs):
            key = self.string("a metadata key", _MAX_NAME_BYTES)
            if key in metadata:
                raise CheckpointError(f"{self.name} has the metadata key {quoted(key)} twice")
            metadata[key] = self.value(int(self.number("I", f"the type of {quoted(key)}")), quoted(key))
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment not in _ALIGNMENTS:
            raise CheckpointError(
                f"{self.name} has general.alignment {quoted(alignment)}; expected a power of two up to 2^20"
            )
        entries = [self.tensor_info() for _ in range(tensors)]
        start = -(-self.at // alignment) * alignment
        return GgufHeader(metadata, self.place(entries, start, alignment))

    def number(self, kind: str, what: str) -> int | float | bool:
        size = struct.calcsize(kind)
        if self.at + size > self.size:
            raise CheckpointError(f"{self.name} ends inside {what}; it is truncated, download it again")
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += size
        result: int | float | bool = value
        return result

    def count(self, what: str, smallest: int, most: int = _MAX_ITEMS) -> int:
        value = int(self.number("Q", what))
        if value * smallest > self.size - self.at:
            raise CheckpointError(
                f"{self.name} has a {what} of {value}, more than its {self.size} bytes hold; it is "
                "truncated or damaged, download it again"
            )
        if value > most:
            raise CheckpointError(f"{self.name} has a {what} of {value}; expected at most {most}")
        return value

    def raw(self, what: str, most: int) -> bytes:
        length = self.count(f"length of {what}", 1, most)
        value = self.data[self.at : self.at + length]
        self.at += length
        return value

    def string(self, what: str, most: int = _MAX_STRING_BYTES) -> str:
        raw = self.raw(what, most)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.name} has {what} that is not UTF-8; it is damaged") from error

    def value(self, kind: int, key: str) -> MetadataValue:
        """A value; `key` is ready for messages."""
        if kind == _STRING:
            return self.string(f"a value of {key}")
        if kind in _FORMATS:
            return self.number(_FORMATS[kind], key)
        if kind != _ARRAY:
            raise CheckpointError(f"{self.name} gives {key} the unknown type {kind}")
        item = int(self.number("I", f"the item type of {key}"))
        if item == _STRING:
            length = self.items(key, 8)
            what = f"an item of {key}"
            # Some vocabularies hold broken bytes; they must stay tellable apart.
            return [self.raw(what, _MAX_NAME_BYTES).decode("utf-8", "surrogateescape") for _ in range(length)]
        if item not in _FORMATS:
            raise CheckpointError(
                f"{self.name} gives {key} items of type {item}; expected numbers, booleans or strings"
            )
        size = struct.calcsize(_FORMATS[item])
        length = self.items(key, size)
        values = list(struct.unpack_from(f"<{length}{_FORMATS[item]}", self.data, self.at))
        self.at += length * size
        return values

    def items(self, key: str, smallest: int) -> int:
        length = self.count(f"length of {key}", smallest, self.items_left)
        self.items_left -= length
        return length

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string("a tensor name", _MAX_NAME_BYTES)
        short = quoted(name)
        axes = int(self.number("I", f"the rank of {short}"))
        if not 1 <= axes <= _MAX_DIMENSIONS:
            raise CheckpointError(f"{self.name} gives tensor {short} {axes} axes; expected 1 to 4")
        shape = tuple(int(self.number("Q", f"the shape of {short}")) for _ in range(axes))[::-1]
        kind = int(self.number("I", f"the type of {short}"))
        return name, shape, kind, int(self.number("Q", f"the offset of {short}"))

    def place(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], start: int, alignment: int
    ) -> dict[str, TensorEntry]:
        sizes = _type_sizes()
        placed: dict[str, TensorEntry] = {}
        for name, shape, kind, offset in entries:
            short = quoted(name)
            if name in placed:
                raise CheckpointError(f"{self.name} has the tensor {short} twice")
            if kind not in sizes:
                raise CheckpointError(
                    f"{self.name} stores {short} in type {kind}, which the installed gguf package does not "
                    "know; update it with: pip install -U gguf"
                )
            type_name, block, block_bytes = sizes[kind]
            if min(shape) < 1 or shape[-1] % block:
                raise CheckpointError(
                    f"{self.name} gives {short} the shape {shape}, which {type_name} blocks of {block} "
                    "do not fill; it is damaged"
                )
            row_bytes = shape[-1] // block * block_bytes
            size = row_bytes * math.prod(shape[:-1])
            if offset % alignment:
                raise CheckpointError(
                    f"{self.name} puts {short} at offset {offset}, expected a multiple of {alignment}; "
                    "it is damaged"
                )
            if start + offset + size > self.size:
                raise CheckpointError(
                    f"{self.name} puts {short} at {start + offset} with {size} bytes, outside its "
                    f"{self.size} bytes; it is truncated or damaged, download it again"
                )
            placed[name] = TensorEntry(name, shape, type_name, start + offset, row_bytes, size)
        self.check_overlap(placed)
        return placed

    def check_overlap(self, placed: Mapping[str, TensorEntry]) -> None:
        ordered = sorted(placed.values(), key=lambda entry: entry.offset)
        for before, after in itertools.pairwise(ordered):
            if after.offset < before.offset + before.size_bytes:
                raise CheckpointError(
                    f"{self.name} lets {quoted(before.name)} and {quoted(after.name)} overlap; it is damaged"
                )


def _type_sizes() -> dict[int, tuple[str, int, int]]:
    """Name, weights per block and bytes per block of every type that the gguf package knows."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError as error:
        raise MissingExtra("gguf", "convert") from error
    return {int(kind): (kind.name, block, size) for kind, (block, size) in GGML_QUANT_SIZES.items()}
