"""Beam search: the likeliest continuations of a sequence, by several branches that share its cells.

A pure function over anything that can run branches together, fork and drop them. A step extends all
branches at once, so that the model's weights are read once. It ends when no live branch can beat the
finished ones any more, which is exact: log-probabilities only fall, and the penalty only grows.

Paper: Google's Neural Machine Translation System (section 7, length penalty; coverage is left out).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float
from edgesdk.decoding.option_types import number, whole_number
from edgesdk.errors import DeviceError, UnsupportedOption, quoted

_STEEPEST = 100
"""The paper uses 0.6 to 0.7; to the power of much more, lengths are no numbers any longer."""

_BLOCK = 64

Branch = TypeVar("Branch")


class Branches(Protocol[Branch]):
    """Sequences that can be extended together, and copied without copying their cells."""

    def extend(self, branches: Sequence[Branch], tokens: Sequence[int]) -> Float:
        """Appends one token to each branch, in as few steps as possible.

        Returns:
            (n, V) float32 logits after it; the caller is done with them before the next call.

        Raises:
            CapacityError: they do not fit; nothing has changed.
        """

    def fork(self, branch: Branch) -> Branch:
        """A branch with the same tokens, which share their cells."""

    def drop(self, branch: Branch) -> None:
        """Releases a branch."""


@dataclass(frozen=True)
class Beam:
    """A continuation that beam search found.

    Attributes:
        tokens: an end token included.
        logprob: natural logarithm of its probability.
        score: that over the length penalty; what continuations are ranked by.
        finished: it ended with an end token, not at the limit.
    """

    tokens: tuple[int, ...]
    logprob: float
    score: float
    finished: bool


@dataclass
class _Live(Generic[Branch]):
    branch: Branch
    tokens: tuple[int, ...]
    logprob: float


def check_beams(width: int, max_tokens: int, length_penalty: float) -> None:
    """Refuses a search that has no meaning.

    Raises:
        UnsupportedOption: naming the argument.
    """
    whole_number("width", width, 1)
    whole_number("max_tokens", max_tokens, 1)
    if not 0 <= number("length_penalty", length_penalty) <= _STEEPEST:
        raise UnsupportedOption(
            f"length_penalty is {quoted(length_penalty)}, expected between 0 and {_STEEPEST}"
        )


def beam_search(
    branches: Branches[Branch],
    root: Branch,
    logits: Float,
    *,
    width: int,
    max_tokens: int,
    eos_ids: Collection[int] = (),
    length_penalty: float = 0.6,
) -> list[Beam]:
    """The likeliest continuations of `root` that a search of this width finds.

    Args:
        branches: runs them; at most `width` live besides the root.
        root: where to begin; it stays as it is.
        logits: (V,) float32 after the root's last token.
        width: how many branches to follow and to return at most.
        max_tokens: most tokens of a continuation.
        eos_ids: tokens that end one.
        length_penalty: alpha of the paper; 0 ranks by probability alone, higher prefers longer ones.

    Returns:
        Up to `width` continuations, best score first; those cut by the limit are ranked among them.

    Raises:
        UnsupportedOption: an argument has no meaning.
        CapacityError: the branches do not fit; all but the root are dropped.
    """
    check_beams(width, max_tokens, length_penalty)
    done: list[Beam] = []
    live: list[_Live[Branch]] = []
    try:
        live = [_Live(branches.fork(root), (), 0.0)]
        rows = logits[None, :]
        for length in range(1, max_tokens + 1):
            grown = _grow(live, rows, width, frozenset(eos_ids), done, length_penalty)
            done = sorted(done, key=_rank)[:width]
            if length == max_tokens:
                cut = [_beam((*live[i].tokens, token), p, length_penalty, False) for i, token, p in grown]
                done = sorted([*done, *cut], key=_rank)[:width]
                break
            # A live branch does best if all its further tokens were certain, at the greatest length.
            most = _penalty(max_tokens, length_penalty)
            bar = done[-1].score if len(done) == width else -np.inf
            grown = [(i, token, p) for i, token, p in grown if p / most > bar]
            live = _follow(branches, live, grown)
            if not live:
                break
            rows = branches.extend([each.branch for each in live], [each.tokens[-1] for each in live])
    finally:
        for each in live:
            branches.drop(each.branch)
    return done


def _grow(
    live: Sequence[_Live[Branch]],
    rows: Float,
    width: int,
    eos_ids: Collection[int],
    done: list[Beam],
    length_penalty: float,
) -> list[tuple[int, int, float]]:
    """The best continuations by one token: (index of the branch, token, log-probability).

    Those by an end token go to `done`. Among equals the oldest branch and the lowest id win.
    """
    count = width + len(eos_ids)
    ends = np.array(sorted(eos_ids), np.int64)
    found: list[tuple[float, int, int]] = []
    for index, (each, row) in enumerate(zip(live, rows, strict=True)):
        top = float(row.max())
        if not top < np.inf:  # NaN, too
            raise DeviceError("the backend returned logits that are not finite numbers; try another backend")
        wide = row.astype(np.float64)
        wide -= top
        kept = np.union1d(_largest(row, count), ends)
        best = wide[kept]
        best += each.logprob - np.log(np.exp(wide, out=wide).sum())
        found += [
            (-logprob, index, token)
            for token, logprob in zip(kept.tolist(), best.tolist(), strict=True)
            if logprob > -np.inf
        ]
    grown: list[tuple[int, int, float]] = []
    for negative, index, token in sorted(found):
        if token in eos_ids:
            done.append(_beam((*live[index].tokens, token), -negative, length_penalty, True))
        elif len(grown) < width:
            grown.append((index, token, -negative))
    return grown


def _largest(row: Float, count: int) -> NDArray[np.int64]:
    """Where the `count` largest of (V,) numbers stand, and maybe some others.

    The largest of a block is one of them; so nothing below the `count`-th of those is among the largest. That
    takes two passes over float32 numbers, where a partition takes a dozen.
    """
    blocks = np.maximum.reduceat(row, np.arange(0, len(row), _BLOCK))
    if len(blocks) <= count:
        return np.arange(len(row))
    return np.flatnonzero(row >= np.partition(blocks, len(blocks) - count)[len(blocks) - count])


def _follow(
    branches: Branches[Branch], live: list[_Live[Branch]], grown: Sequence[tuple[int, int, float]]
) -> list[_Live[Branch]]:
    """Branches for the chosen continuations: the first of each old one takes it over, others fork it.

    Those that nobody follows are dropped first, so that their cells are free, and leave `live`, which is
    what has to be dropped if a fork fails.
    """
    used = {index for index, _, _ in grown}
    old = list(live)
    live[:] = [each for index, each in enumerate(old) if index in used]
    for index, each in enumerate(old):
        if index not in used:
            branches.drop(each.branch)
    followed: list[_Live[Branch]] = []
    for index, token, logprob in grown:
        each = old[index]
        branch = each.branch
        if index not in used:
            branch = branches.fork(branch)
            live.append(_Live(branch, each.tokens, each.logprob))
        used.discard(index)
        followed.append(_Live(branch, (*each.tokens, token), logprob))
    return followed


def _penalty(length: int, alpha: float) -> float:
    return float(((5 + length) / 6) ** alpha)


def _beam(tokens: tuple[int, ...], logprob: float, alpha: float, finished: bool) -> Beam:
    return Beam(tokens, logprob, logprob / _penalty(len(tokens), alpha), finished)


def _rank(beam: Beam) -> tuple[float, tuple[int, ...]]:
    return -beam.score, beam.tokens
