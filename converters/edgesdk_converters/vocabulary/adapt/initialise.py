"""Rows for the tokens of another vocabulary: five ways to begin, and the plain mean.

All work on the embedding table and, where it is apart, on the head with the same weights. Tokens whose text
is in both vocabularies are the *overlap*.

Papers: 2402.10712 (Random, CLP, CLP+, Heuristics, FOCUS as compared there); "Efficient Language Model
Training through Cross-Lingual and Progressive Transfer Learning" (CLP); FOCUS (2305.14481); "From Softmax
to Sparsemax" (1602.02068). The mean of what a token was spelled with is the first choice of 2406.11477 for
expansions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from edgesdk.errors import UnsupportedOption, quoted

Init = Literal["random", "mean", "clp", "clp+", "heuristics", "focus"]
Origin = Literal["copied", "mixed", "mean", "drawn"]
Rows = npt.NDArray[np.float32]

INITS: tuple[Init, ...] = get_args(Init)
_BLOCK = 512


class VectorsOf(Protocol):
    """Vectors of tokens by their text."""

    def __call__(self, texts: Sequence[str]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """(n, d) vectors, and (n,) whether there is one of each."""


@dataclass(frozen=True)
class Spelled:
    """Both vocabularies.

    Attributes:
        source: id in the table by text.
        target: texts by new id.
        kept: old id by new one, of tokens that are the same whatever their text: special ones.
        spelling: old ids that spell each new token's text, by new id; empty for what no text has.
        shown: text of each new token as people read it, with U+FFFD for parts of characters.
    """

    source: Mapping[str, int]
    target: Sequence[str]
    kept: Mapping[int, int]
    spelling: Sequence[Sequence[int]]
    shown: Sequence[str]

    def overlap(self) -> dict[int, int]:
        """Old id by new one, of tokens with the same text, special ones among them."""
        same = {new: self.source[text] for new, text in enumerate(self.target) if text in self.source}
        return {**same, **self.kept}


@dataclass(frozen=True)
class Mixture:
    """How each new row is made of old ones; the same for every table.

    Attributes:
        copied: old id by new one.
        mixed: weights over old ids by new one, which sum to 1.
        drawn: mean and deviation of these old rows, by new id; an empty list means all of them.
        origins: what was done, by new id.
    """

    copied: Mapping[int, int]
    mixed: Mapping[int, tuple[npt.NDArray[np.int64], Rows]]
    drawn: Mapping[int, npt.NDArray[np.int64]]
    origins: Sequence[Origin]


def check_init(init: object) -> Init:
    """Refuses what is no initialisation.

    Raises:
        UnsupportedOption: naming those that there are.
    """
    if init not in INITS:
        raise UnsupportedOption(f"init is {quoted(init)}, expected {', '.join(INITS)}")
    return init


def mixture(init: Init, spelled: Spelled, vectors: VectorsOf | None) -> Mixture:
    """How the rows of a vocabulary are made.

    Args:
        init: which way.
        spelled: both vocabularies.
        vectors: of new tokens, for `clp`, `clp+` and `focus`.
    """
    everything = np.empty(0, np.int64)
    count = len(spelled.target)
    if init == "random":  # of the paper: nothing is copied
        return _made({}, {}, dict.fromkeys(range(count), everything), count)
    copied = spelled.overlap()
    rest = [new for new in range(count) if new not in copied]
    if init == "heuristics":
        groups = _by_script(spelled)
        return _made(
            copied, {}, {new: groups.get(_kind(spelled.shown[new]), everything) for new in rest}, count
        )
    if init == "mean":
        spellings = {new: np.array(spelled.spelling[new], np.int64) for new in rest if spelled.spelling[new]}
        mixed = {new: (ids, np.full(len(ids), 1 / len(ids), np.float32)) for new, ids in spellings.items()}
        return _made(copied, mixed, {new: everything for new in rest if new not in mixed}, count)
    assert vectors is not None
    mixed = _by_likeness(spelled, copied, rest, vectors, sparse=init != "clp")
    return _made(copied, mixed, {new: everything for new in rest if new not in mixed}, count)


def new_rows(table: Rows, made: Mixture, seed: int) -> Rows:
    """A table for the new vocabulary.

    Args:
        table: (V, E) of the checkpoint.
        made: how.
        seed: of what is drawn.

    Returns:
        (V', E) float32.
    """
    random = np.random.default_rng(seed)
    rows = np.empty((len(made.origins), table.shape[1]), np.float32)
    if made.copied:
        rows[list(made.copied)] = table[list(made.copied.values())]
    for new, (ids, weights) in made.mixed.items():
        rows[new] = weights @ table[ids]
    every: tuple[Rows, Rows] | None = None
    known: dict[bytes, tuple[Rows, Rows]] = {}
    for new, ids in made.drawn.items():
        if not len(ids):
            every = every or (table.mean(0), table.std(0))
            mean, deviation = every
        else:
            key = ids.tobytes()
            if key not in known:
                known[key] = (table[ids].mean(0), table[ids].std(0))
            mean, deviation = known[key]
        rows[new] = random.normal(mean, deviation)
    return rows


def sparsemax(scores: Rows) -> Rows:
    """The point of the simplex that is nearest to each row: like softmax, with most weights 0.

    Args:
        scores: (n, k).
    """
    ordered = -np.sort(-scores, axis=1)
    sums = np.cumsum(ordered, axis=1)
    places = np.arange(1, scores.shape[1] + 1)
    support = (1 + places * ordered > sums).sum(1)
    threshold = (sums[np.arange(len(scores)), support - 1] - 1) / support
    weights: Rows = np.maximum(scores - threshold[:, None], 0).astype(np.float32)
    return weights


def _made(
    copied: Mapping[int, int],
    mixed: Mapping[int, tuple[npt.NDArray[np.int64], Rows]],
    drawn: Mapping[int, npt.NDArray[np.int64]],
    count: int,
) -> Mixture:
    origins: list[Origin] = [
        "copied" if new in copied else "mixed" if new in mixed else "drawn" for new in range(count)
    ]
    return Mixture(copied, mixed, drawn, origins)


def _by_likeness(
    spelled: Spelled, copied: Mapping[int, int], rest: Sequence[int], vectors: VectorsOf, *, sparse: bool
) -> dict[int, tuple[npt.NDArray[np.int64], Rows]]:
    """Weights over the overlap by the cosine of vectors: all of them (CLP), or few (CLP+, FOCUS)."""
    ordinary = [new for new in copied if new not in spelled.kept]
    found, there = vectors([spelled.target[new] for new in ordinary])
    ids = np.array([copied[new] for new in ordinary], np.int64)[there]
    base = _unit(found[there])
    asked, known = vectors([spelled.target[new] for new in rest])
    mixed: dict[int, tuple[npt.NDArray[np.int64], Rows]] = {}
    if not len(ids):
        return mixed
    places = np.flatnonzero(known)
    for begin in range(0, len(places), _BLOCK):
        some = places[begin : begin + _BLOCK]
        cosines = _unit(asked[some]) @ base.T
        weights = sparsemax(cosines) if sparse else cosines / cosines.sum(1, keepdims=True)
        for place, row in zip(some, weights, strict=True):
            used = np.flatnonzero(row)
            if len(used) and np.isfinite(row).all():
                mixed[rest[place]] = (ids[used], row[used].astype(np.float32))
    return mixed


def _unit(vectors: Rows) -> Rows:
    unit: Rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _by_script(spelled: Spelled) -> dict[tuple[str, bool], npt.NDArray[np.int64]]:
    """Old ids by script and place in the word, of the overlap: rows of tokens that are alike."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for new, old in spelled.overlap().items():
        if new not in spelled.kept:
            groups.setdefault(_kind(spelled.shown[new]), []).append(old)
    return {kind: np.array(sorted(ids), np.int64) for kind, ids in groups.items()}


def _kind(text: str) -> tuple[str, bool]:
    """Script of a token, and whether it begins a word."""
    return _script(text), text[:1].isspace()


def _script(text: str) -> str:
    for character in text:
        if character.isalpha():
            # The first word of its name is its script: LATIN SMALL LETTER A, CJK UNIFIED IDEOGRAPH-4E00.
            return unicodedata.name(character, "?").partition(" ")[0]
    if any(character.isdigit() for character in text):
        return "digit"
    return "part" if "\ufffd" in text else "other"
