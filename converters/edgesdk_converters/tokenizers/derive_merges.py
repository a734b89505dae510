"""Merges of a byte-pair encoding from the order of its tokens, for files that list none.

SentencePiece merges the neighbours whose joined text has the best score; a list of merges says the
same when it holds every pair of tokens that join into a token, the best first (title: SentencePiece,
"Byte-pair-encoding"). The same holds for tiktoken's ranks. It knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgesdk_converters.tokenizers.vocabulary import TokenKind, Vocabulary

_MERGED_KINDS = frozenset({TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.UNUSED})


def merges_by_score(vocabulary: Vocabulary, scores: tuple[float, ...]) -> list[tuple[str, str]]:
    """Every pair of tokens that join into a token, by falling score of the joined token.

    Args:
        vocabulary: its normal and user-defined tokens take part, others are never made by merging.
        scores: score by id.
    """
    return _merges(vocabulary, lambda token: -scores[token])


def merges_by_rank(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Every pair of tokens that join into a token, by rising id of the joined token."""
    return _merges(vocabulary, float)


def _merges(vocabulary: Vocabulary, cost: Callable[[int], float]) -> list[tuple[str, str]]:
    pieces: Mapping[str, int] = {
        text: i
        for i, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind in _MERGED_KINDS and " " not in text and not vocabulary.is_filler(i)
    }
    found: list[tuple[float, int, int, int]] = []
    for text, token in pieces.items():
        for cut in range(1, len(text)):
            left = pieces.get(text[:cut])
            right = pieces.get(text[cut:]) if left is not None else None
            if left is not None and right is not None:
                found.append((cost(token), token, left, right))
    found.sort()
    return [(vocabulary.tokens[left], vocabulary.tokens[right]) for _, _, left, right in found]
