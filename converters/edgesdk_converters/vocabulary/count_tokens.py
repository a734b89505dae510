"""Counts a tokenizer's tokens in files, and lists which scripts a set of tokens writes in.

Files are read line by line, so a large corpus needs little memory; they must be UTF-8.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BLOCK_CHARS = 4096
_BLOCKS = 64
_REPLACEMENT = "\ufffd"


def read_blocks(path: Path) -> Iterator[str]:
    """Whole lines of a text file, a few thousand characters at a time.

    Raises:
        UnsupportedOption: it cannot be read or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            block: list[str] = []
            size = 0
            for line in file:
                block.append(line)
                size += len(line)
                if size >= _BLOCK_CHARS:
                    yield "".join(block)
                    block, size = [], 0
            if block:
                yield "".join(block)
    except OSError as error:
        raise UnsupportedOption(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UnsupportedOption(f"{path} is not UTF-8 text; convert it first") from error


def count_tokens(
    engine: Tokenizer, texts: Iterable[str], size: int, weights: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """How often each token occurs.

    Args:
        engine: the tokenizer.
        texts: to count in.
        size: number of ids.
        weights: what each text counts for; None for one each.

    Returns:
        (size,) float64 by id.
    """
    counts = np.zeros(size, np.float64)
    pending, done = iter(texts), 0
    while batch := list(islice(pending, _BLOCKS)):
        for encoding in engine.encode_batch_fast(batch, add_special_tokens=False):
            ids = np.asarray(encoding.ids, np.int64)
            np.add.at(counts, ids, 1.0 if weights is None else weights[done])
            done += 1
    return counts


def token_scripts(engine: Tokenizer, token: int) -> frozenset[str] | None:
    """Scripts of the letters of a token; None for a token that is no whole characters."""
    text: str = engine.decode([token], skip_special_tokens=False)
    if _REPLACEMENT in text:
        return None
    return frozenset(_script(c) for c in text if c.isalpha())


@cache
def _script(character: str) -> str:
    # Python has no table of scripts; the first word of a letter's name is one for every large script.
    return unicodedata.name(character, "UNNAMED").split(" ", 1)[0]
