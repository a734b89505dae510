"""Branches of a beam search whose cells are those of a step runner: forks share them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from edgesdk.backends.protocol import Float
from edgesdk.decoding.beam import Beam, beam_search
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_runner import StepEntry, StepRunner


class CellBranches:
    """Implements `edgesdk.decoding.beam.Branches` over a `StepRunner`."""

    def __init__(self, runner: StepRunner, vocab_size: int) -> None:
        """Uses a runner, which stays the caller's.

        Args:
            runner: runs all branches of a step together, as far as they fit its largest T.
            vocab_size: V.
        """
        self._runner = runner
        self._vocab_size = vocab_size

    def start(self, prompt: Sequence[int]) -> tuple[CellList, Float]:
        """A branch that holds a prompt, and (V,) float32 logits after it.

        Raises:
            CapacityError: it does not fit.
        """
        branch = self._runner.new_list()
        tokens = np.asarray(prompt, np.int32)
        most = self._runner.token_budgets[-1]
        logits: Float | None = None
        try:
            for begin in range(0, len(tokens), most):
                piece = tokens[begin : begin + most]
                last = begin + most >= len(tokens)
                entry = StepEntry(branch, piece, "last" if last else "none")
                (logits,) = self._runner.run([entry])
            if logits is None:
                raise ValueError("a beam search needs a prompt")
        except BaseException:
            branch.close()
            raise
        return branch, logits.copy()

    def extend(self, branches: Sequence[CellList], tokens: Sequence[int]) -> Float:
        """Appends one token to each branch: (n, V) float32 logits after them.

        Raises:
            CapacityError: they do not fit.
        """
        most = self._runner.token_budgets[-1]
        rows = np.empty((len(branches), self._vocab_size), np.float32)
        for begin in range(0, len(branches), most):
            entries = [
                StepEntry(branch, np.array([token], np.int32))
                for branch, token in zip(
                    branches[begin : begin + most], tokens[begin : begin + most], strict=True
                )
            ]
            for row, logits in zip(rows[begin:], self._runner.run(entries), strict=False):
                if logits is not None:
                    row[:] = logits
        return rows

    def fork(self, branch: CellList) -> CellList:
        """A branch with the same tokens and cells."""
        return branch.fork()

    def drop(self, branch: CellList) -> None:
        """Releases a branch."""
        branch.close()


def search_cells(
    runner: StepRunner,
    prompt: Sequence[int],
    vocab_size: int,
    *,
    width: int,
    max_tokens: int,
    eos_ids: Collection[int],
    length_penalty: float,
) -> list[Beam]:
    """The continuations of a prompt that `beam_search` finds, over a runner that nobody else uses.

    Args:
        runner: runs the branches.
        prompt: token ids.
        vocab_size: V.
        width: how many branches to follow.
        max_tokens: most tokens of each.
        eos_ids: tokens that end one.
        length_penalty: as for `beam_search`.

    Raises:
        CapacityError: the prompt or the branches do not fit.
    """
    branches = CellBranches(runner, vocab_size)
    root, logits = branches.start(prompt)
    try:
        return beam_search(
            branches,
            root,
            logits,
            width=width,
            max_tokens=max_tokens,
            eos_ids=eos_ids,
            length_penalty=length_penalty,
        )
    finally:
        root.close()
