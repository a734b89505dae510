"""Which tokens a draft may say: those that its texts have most often."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import UnsupportedOption


def choose_words(
    texts: Iterable[NDArray[np.int32]], always: Iterable[int], vocab_size: int, size: int
) -> NDArray[np.int32]:
    """The most frequent tokens.

    Args:
        texts: (n,) each.
        always: tokens that are taken in any case: the ends of answers.
        vocab_size: V of the target.
        size: V', how many; where the texts have fewer, low ids fill up, which merges made first.

    Returns:
        (V',) int32 rising ids.

    Raises:
        UnsupportedOption: as `check_words`.
    """
    fixed = sorted(set(always))
    check_words(fixed, vocab_size, size)
    counts = np.zeros(vocab_size, np.int64)
    for text in texts:
        counts += np.bincount(text, minlength=vocab_size)
    counts[fixed] = np.iinfo(np.int64).max
    order = np.argsort(-counts, kind="stable")
    return np.sort(order[:size]).astype(np.int32)


def check_words(always: Collection[int], vocab_size: int, size: int) -> None:
    """Refuses a number of words that no draft of a target has.

    Raises:
        UnsupportedOption: the target has fewer tokens, or there is no room for those that are taken always.
    """
    least = len(set(always)) + 1
    if not least <= size <= vocab_size:
        raise UnsupportedOption(f"a draft of {size} words was asked for, expected {least} to {vocab_size}")
