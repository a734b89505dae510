"""Which sizes a step graph is emitted in, for a given context.

Attention costs what S is, used or not. A target whose files can be resized offers S in fine steps at no
cost (docs/decisions/0012); one whose sizes are separate graphs offers the few that its caller names.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import UnsupportedOption

SMALLEST_CELLS = 512
LARGEST_CONTEXT = 1 << 17
TOKENS = (1, 8, 16, 32, 64, 96, 128)
_MOST_ROWS = 8  # a row of logits costs as much as 8 of SmolLM2's 30 layers: prompts want one only
_FINEST_CELLS = 128
_STEPS_OF_AN_OCTAVE = 4


def resizable_sizes(context: int) -> tuple[StepShape, ...]:
    """Three signatures: to decode, to verify drafts or decode for several, and for prompts.

    S goes in steps of 128, and from 1,024 on of a quarter octave. Prompts have one signature for every T,
    because loading takes time for each; it is resized where T changes, once or twice in a prompt, so the
    rest of a prompt need not pay for 128 tokens.

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
    sizes = [
        StepShape(tokens, S, min(tokens, _MOST_ROWS), f"step_{tokens if tokens <= _MOST_ROWS else 'many'}")
        for tokens in TOKENS
        for S in (*cells, context)
    ]
    return tuple(sorted(sizes))


def static_sizes(context: int, tokens: Iterable[int], cells: Iterable[int] = ()) -> tuple[StepShape, ...]:
    """A graph for every T and S.

    Args:
        context: longest sequence, in tokens: the largest S.
        tokens: every T.
        cells: further S; those that reach the context are left out.

    Raises:
        UnsupportedOption: the context is not between 16 and 131072.
    """
    _check(context)
    every = (*(size for size in cells if size < context), context)
    sizes = [StepShape(T, S, min(T, _MOST_ROWS), f"step_{T}_{S}") for T in tokens for S in every]
    return tuple(sorted(sizes))


def _check(context: int) -> None:
    if not 16 <= context <= LARGEST_CONTEXT:
        raise UnsupportedOption(f"context is {context}, expected 16 to {LARGEST_CONTEXT} tokens")
