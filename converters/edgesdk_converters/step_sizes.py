"""Which sizes a step graph is emitted in, for a given context.

Attention costs what S is, used or not. A target whose files can be resized offers S in fine steps at no
cost (docs/decisions/0012); one whose sizes are separate graphs offers the few that its caller names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.stack_record import DRAFT
from edgesdk.errors import UnsupportedOption

SMALLEST_CELLS = 512
LARGEST_CONTEXT = 1 << 17
LARGEST_TEXT = 1 << 13
"""Tokens that see the whole text: scores of one head take 256 MB then."""
DECODED = (2, 4, 5, 8, 10, 12, 16)
"""T of steps that decode for several or judge drafts: XNNPACK's int8 products take rows by fours or fives."""
PROMPT = (32, 64, 96, 128)
_TAILS = (8, 16)
_SEATS = 16  # rows of a step in which others decode beside a prompt
_MOST_ROWS = 8  # of a graph of its own: a row of logits costs as much as 8 of SmolLM2's 30 layers
_FINEST_CELLS = 128
_STEPS_OF_AN_OCTAVE = 4


def resizable_sizes(context: int) -> tuple[StepShape, ...]:
    """Three signatures: for one token, for a few, and for prompts.

    A signature is resized where T, S or R changes, because loading takes time for each. S goes in steps of
    128, and from 1,024 on of a quarter octave. A few tokens have logits in every row: they are the next of
    several sequences, or drafts. A prompt has them in one row, in as many as decode beside it, or in all,
    where it is scored; its rest need not pay for 128 tokens.

    Args:
        context: longest sequence, in tokens.

    Raises:
        UnsupportedOption: the context is not between 16 and 131072.
    """
    _check(context)
    cells = []
    size = _FINEST_CELLS
    while size < context:
        cells.append(size)
        octave = 1 << (size.bit_length() - 1)
        size += max(_FINEST_CELLS, octave // _STEPS_OF_AN_OCTAVE)
    rows = [(1, 1, "step_1")]
    rows += [(T, T, "step_few") for T in DECODED] + [(T, 1, "step_few") for T in _TAILS]
    rows += [(T, R, "step_many") for T in PROMPT for R in (1, _SEATS, T)]
    return tuple(sorted(StepShape(T, S, R, signature) for T, R, signature in rows for S in (*cells, context)))


def open_sizes(context: int) -> tuple[StepShape, ...]:
    """The same sizes for a file that is one graph of any size.

    Raises:
        UnsupportedOption: as above.
    """
    return tuple(sorted(replace(size, signature="step") for size in resizable_sizes(context)))


def static_sizes(
    context: int, tokens: Iterable[int], cells: Iterable[int] = (), *, decoded: int = _MOST_ROWS
) -> tuple[StepShape, ...]:
    """A graph for every T and S.

    Args:
        context: longest sequence, in tokens: the largest S.
        tokens: every T.
        cells: further S; those that reach the context are left out.
        decoded: largest T with logits in every row; prompts have them in eight.

    Raises:
        UnsupportedOption: the context is not between 16 and 131072.
    """
    _check(context)
    every = (*(size for size in cells if size < context), context)
    rows = {T: T if decoded >= T else min(T, _MOST_ROWS) for T in tokens}
    sizes = [StepShape(T, S, R, f"step_{T}_{S}") for T, R in rows.items() for S in every]
    return tuple(sorted(sizes))


def whole_text_sizes(context: int) -> tuple[StepShape, ...]:
    """One signature for steps that hold a text or several, whose T is resized; there are no cells or rows.

    T goes in steps of half an octave: what a step has beyond its tokens is a third of it at most, and each T
    takes memory for masks of its own.

    Args:
        context: longest text, in tokens.

    Raises:
        UnsupportedOption: the context is not between 16 and 8192.
    """
    if not _TAILS[-1] <= context <= LARGEST_TEXT:
        raise UnsupportedOption(
            f"context is {context}, expected {_TAILS[-1]} to {LARGEST_TEXT} tokens where they see the whole "
            "text"
        )
    sizes = {context}
    for octave in range(4, LARGEST_TEXT.bit_length()):
        sizes |= {T for T in (1 << octave, 3 << octave - 1) if context > T}
    return tuple(StepShape(T, 1, 1, "step_text") for T in sorted(sizes))


def draft_sizes(tokens: Iterable[int], *, resized: bool) -> tuple[StepShape, ...]:
    """Sizes of a trained draft, which has no cells and logits in every row.

    Args:
        tokens: every T: texts that go on at once.
        resized: whether those above 1 are one signature.
    """
    names = {T: f"{DRAFT}_{'few' if resized and T > 1 else T}" for T in tokens}
    return tuple(StepShape(T, 1, T, name, DRAFT) for T, name in names.items())


def _check(context: int) -> None:
    if not 16 <= context <= LARGEST_CONTEXT:
        raise UnsupportedOption(f"context is {context}, expected 16 to {LARGEST_CONTEXT} tokens")
