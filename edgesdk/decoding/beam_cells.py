"""Branches of a beam search whose cells are those of a step runner: forks share them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgesdk.backends.protocol import Float
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
