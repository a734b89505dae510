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

from converters.tokenizers.parts import Component
from edgesdk.errors import CheckpointError

_KEY = "tokenizer.ggml.precompiled_charsmap"
_HAS_LEAF = 1 << 8
_LABEL = (1 << 31) | 0xFF
_VALUE = (1 << 31) - 1


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
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or not 4 <= size <= len(table) - 4:
        raise CheckpointError(f"{_KEY} has {len(table)} bytes and names a trie of {size}, which does not fit")
    texts = table[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{_KEY} has replacements that are not UTF-8; get the file again") from error
    units = np.frombuffer(table, "<u4", count=size // 4, offset=4).astype(np.int64)
    values = _leaf_values(units)
    if values.size and int(values.max()) >= max(len(texts), 1):
        raise CheckpointError(f"{_KEY} points to replacement {int(values.max())} of {len(texts)} bytes")
    starts = np.frombuffer(texts, np.uint8)[values] if texts else np.zeros(0, np.uint8)
    # A continuation byte is no place for a replacement to begin.
    if bool(((starts & 0xC0) == 0x80).any()):
        raise CheckpointError(f"{_KEY} points into the middle of a character; get the file again")


def _leaf_values(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Values of all reachable leaves.

    Args:
        units: (N,) int64, the trie.

    Raises:
        CheckpointError: some text would read outside of the trie.
    """
    characters = np.arange(1, 256)
    seen = np.zeros(len(units), bool)
    bases = np.array([_offset(units[:1])[0]])
    values: list[NDArray[np.int64]] = []
    while bases.size:
        reached = bases[:, None] ^ characters
        if int(reached.max()) >= len(units):
            raise CheckpointError(
                f"{_KEY} leads outside of its trie of {len(units)} units; get the file again"
            )
        nodes = np.unique(reached[(units[reached] & _LABEL) == characters])
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
        bases = np.unique(nodes ^ _offset(units[nodes]))
        leaves = bases_of_leaves = nodes[(units[nodes] & _HAS_LEAF) != 0]
        ends = leaves ^ _offset(units[bases_of_leaves])
        if ends.size and int(ends.max()) >= len(units):
            raise CheckpointError(
                f"{_KEY} leads outside of its trie of {len(units)} units; get the file again"
            )
        values.append(units[ends] & _VALUE)
    return np.concatenate(values) if values else np.zeros(0, np.int64)


def _offset(units: NDArray[np.int64]) -> NDArray[np.int64]:
    return (units >> 10) << ((units & (1 << 9)) >> 6)
