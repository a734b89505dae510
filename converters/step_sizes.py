"""Which static sizes a step graph is emitted in, for a given context.

Attention costs what S is, used or not, so decoding (T = 1) gets steps of half an octave; the larger
T, which run seldom or spread the cost over many tokens, get whole octaves. Each size costs about
20 ms of load time (docs/decisions/0005).
"""

from __future__ import annotations

from edgesdk.bundle.manifest import StepShape
from edgesdk.errors import UnsupportedOption

SMALLEST_CELLS = 512
LARGEST_CONTEXT = 1 << 17
_TOKENS = (1, 8, 16, 32, 128)
_MOST_ROWS = 8  # a row of logits costs as much as 8 of SmolLM2's 30 layers: prompts want one only


def step_sizes(context: int) -> tuple[StepShape, ...]:
    """Sizes for sequences of up to `context` tokens.

    Raises:
        UnsupportedOption: the context is not between 16 and 131072.
    """
    if not 16 <= context <= LARGEST_CONTEXT:
        raise UnsupportedOption(f"context is {context}, expected 16 to {LARGEST_CONTEXT} tokens")
    octaves = [context]
    cells = SMALLEST_CELLS
    while cells < context:
        octaves.append(cells)
        cells *= 2
    halves = [c * 3 // 2 for c in octaves if c * 3 // 2 < context]
    sizes = []
    for tokens in _TOKENS:
        rows = min(tokens, _MOST_ROWS)
        for cells in {*octaves, *(halves if tokens == 1 else ())}:
            sizes.append(StepShape(tokens, cells, rows, f"step_{tokens}_{cells}"))
    return tuple(sorted(sizes))
