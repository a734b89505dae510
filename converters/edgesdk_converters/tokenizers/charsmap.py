"""Checks and carries over SentencePiece's table of character replacements.

The table is a double-array trie followed by the texts it points to (title: SentencePiece,
normalizer.h `PrecompiledCharsMap`; Darts-clone). The package that runs it trusts every offset in it,
so each one that a text can reach is checked here first.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.tokenizers.parts import Component

_KEY = "tokenizer.ggml.precompiled_charsmap"
_HAS_LEAF = 1 << 8
_LABEL = (1 << 31) | 0xFF
_VALUE = (1 << 31) - 1
_BYTES = np.arange(1, 256)
_BASES_AT_ONCE = 4096
_LIMIT_BYTES = 4 << 20
"""Published tables have a quarter of a megabyte."""


def charsmap_normalizer(metadata: Mapping[str, object]) -> Component | None:
    """The normalizer of a file, None when it has none.

    Raises:
        CheckpointError: the table is damaged.
    """
    value = metadata.get(_KEY)
    if value is None:
        return None
    table = _bytes(value)
    if not table:
        return None
    _check(table)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode("ascii")}


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    # The format stores it as signed or unsigned bytes.
    if isinstance(value, list) and all(isinstance(byte, int) and -128 <= byte < 256 for byte in value):
        return bytes(byte & 0xFF for byte in value)
    raise CheckpointError(f"{_KEY} is {type(value).__name__}, expected a list of bytes")


def _check(table: bytes) -> None:
    if len(table) > _LIMIT_BYTES:
        raise CheckpointError(f"{_KEY} has {len(table)} bytes, expected at most {_LIMIT_BYTES}")
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4:
        raise CheckpointError(f"{_KEY} has {len(table)} bytes and names a trie of {size}, which does not fit")
    texts = table[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{_KEY} has replacements that are not UTF-8; get the file again") from error
    values = _leaf_values(np.frombuffer(table, "<u4", count=size // 4, offset=4).astype(np.int64))
    if values.size and int(values.max()) >= len(texts):
        raise CheckpointError(
            f"{_KEY} points to byte {int(values.max())} of {len(texts)}; get the file again"
        )
    # A continuation byte is no place for a replacement to begin.
    if values.size and bool(((np.frombuffer(texts, np.uint8)[values] & 0xC0) == 0x80).any()):
        raise CheckpointError(f"{_KEY} points into the middle of a character; get the file again")


def _leaf_values(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values of all reachable leaves.

    Args:
        units: (N,) int64, the trie.

    Raises:
        CheckpointError: some text would read outside of the trie.
    """
    seen = np.zeros(len(units), bool)
    values: list[NDArray[np.int64]] = []
    nodes = np.zeros(1, np.int64)
    while nodes.size:
        seen[nodes] = True
        bases = nodes ^ _offset(units[nodes])
        _inside(bases, units)
        values.append(units[bases[(units[nodes] & _HAS_LEAF) != 0]] & _VALUE)
        children = [
            _children(bases[i : i + _BASES_AT_ONCE], units) for i in range(0, len(bases), _BASES_AT_ONCE)
        ]
        nodes = np.unique(np.concatenate(children))
        nodes = nodes[~seen[nodes]]
    return np.concatenate(values)


def _children(bases: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nodes that one more byte of text leads to."""
    reached = bases[:, None] ^ _BYTES
    _inside(reached, units)
    found: NDArray[np.int64] = reached[(units[reached] & _LABEL) == _BYTES]
    return found


def _inside(positions: NDArray[np.int64], units: NDArray[np.int64]) -> None:
    if int(positions.max()) >= len(units):
        raise CheckpointError(f"{_KEY} leads outside of its trie of {len(units)} units; get the file again")


def _offset(units: NDArray[np.int64]) -> NDArray[np.int64]:
    return (units >> 10) << ((units & (1 << 9)) >> 6)
