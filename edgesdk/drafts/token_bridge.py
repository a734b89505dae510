"""Tokens of one bundle by those of another: the same text, maybe another id.

Bundles share a tokenizer when its file has the same digest. A bundle whose vocabulary was pruned has other
ids for a part of the same tokens. Anything else is refused: a draft in other tokens would hardly ever be
kept.
"""

from __future__ import annotations

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.bundle.manifest import TOKENIZER_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.errors import UnsupportedOption
from edgesdk.text.tokenizer import Tokenizer

_SHOWN = 40


class TokenBridge:
    """Ids on the two sides of it."""

    def __init__(self, across: Int, back: Int) -> None:
        """Takes both tables.

        Args:
            across: (V,) int32 the other id of each id; -1 where there is none.
            back: (V',) int32 likewise.
        """
        # What the other side cannot read becomes something that it can: a guess is as good as its context.
        self._across = np.where(across >= 0, across, 0).astype(np.int32)
        self._back = back

    def across(self, tokens: Int) -> Int:
        """Ids on the other side."""
        ids: Int = self._across[tokens]
        return ids

    def back(self, token: int) -> int:
        """The id on this side of one on the other; -1 where there is none."""
        return int(self._back[token]) if token < len(self._back) else -1


def bridge_tokens(bundle: Bundle, other: Bundle) -> TokenBridge | None:
    """What leads from one bundle's tokens to those of another; None where they are the same.

    Args:
        bundle: writes answers.
        other: guesses them.

    Raises:
        UnsupportedOption: one of them has a token, with text or id, that the other knows otherwise.
        BundleError: a tokenizer cannot be read.
    """
    sizes = [each.manifest.decoder.vocab_size for each in (bundle, other)]
    files = [each.manifest.files[TOKENIZER_NAME].sha256 for each in (bundle, other)]
    if files[0] == files[1] and sizes[0] == sizes[1]:
        return None
    mine, theirs = (_ids(each) for each in (bundle, other))
    small, large = sorted((mine, theirs), key=len)
    foreign = [text for text in small if text not in large]
    if foreign:
        shown = min(foreign)[:_SHOWN]
        raise UnsupportedOption(
            f"{other.manifest.name} cannot draft for {bundle.manifest.name}: their tokenizers differ, "
            f"{len(foreign)} of {len(small)} tokens of the smaller one are not in the other, such as "
            f"{shown!r}; take a model of the same family"
        )
    if mine == theirs and sizes[0] == sizes[1]:
        return None
    across, back = (np.full(size, -1, np.int32) for size in sizes)
    for text, token in mine.items():
        twin = theirs.get(text, -1)
        if token < len(across) and 0 <= twin < len(back):
            across[token] = twin
            back[twin] = token
    return TokenBridge(across, back)


def _ids(bundle: Bundle) -> dict[str, int]:
    tokenizer = Tokenizer(bundle.path / TOKENIZER_NAME, bundle.manifest.tokenizer)
    return dict(tokenizer.engine.get_vocab(with_added_tokens=True))
