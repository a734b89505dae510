"""Runs prompts for the logits after each, what all of them begin with only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgesdk.backends.protocol import Int
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.vectors.run_texts import RunPiece, run_texts


def run_shared(runner: StepRunner, prompts: Sequence[Int]) -> Iterator[RunPiece]:
    """Runs prompts as `run_texts` does.

    Args:
        runner: that nobody else uses meanwhile.
        prompts: token ids, (n,) int32 each, n at least 1.

    Raises:
        CapacityError: one does not fit the context.
        DeviceError: the backend failed.
    """
    shared = shared_beginning(prompts)
    begun = runner.new_list()
    try:
        for first in range(0, shared, runner.token_budgets[-1]):
            piece = prompts[0][first : min(first + runner.token_budgets[-1], shared)]
            runner.run([StepEntry(begun, piece, "none")])
        rest = [prompt[shared:] for prompt in prompts]
        yield from run_texts(runner, rest, after=begun if shared else None)
    finally:
        begun.close()


def shared_beginning(prompts: Sequence[Int]) -> int:
    """Tokens that all prompts begin with and go on after; of one prompt none, since nobody shares them."""
    if len(prompts) < 2:
        return 0
    length = min(map(len, prompts))
    first = prompts[0][:length]
    for prompt in prompts[1:]:
        different = np.flatnonzero(prompt[:length] != first[:length])
        if len(different):
            length = int(different[0])
        first = first[:length]
    return min(length, min(map(len, prompts)) - 1)
