"""Logits of a head that writes some tokens only, as logits over the whole vocabulary.

The one place where an output-only pruned vocabulary shows: whatever stands above a backend (sampling,
grammars, beams, log-probabilities, measurements) sees ids and rows of the full vocabulary. Tokens that the
head lacks get a logit so low that their probability is exactly 0; it is finite, so that differences of
such rows are numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.aligned_array import aligned_floats
from edgesdk.backends.protocol import MASKED, Cells, Float, Int, StepBackend, StepBuffers
from edgesdk.bundle.id_map import read_id_map
from edgesdk.bundle.manifest import ID_MAP_NAME, StepShape, Variant
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.step_contract import StepContract
from edgesdk.errors import BundleError


class WideLogits:
    """Implements `StepBackend` over one with fewer logits."""

    def __init__(self, backend: StepBackend, kept: Int, vocab_size: int) -> None:
        """Takes over a backend.

        Args:
            backend: the logits of its stacks are (R, N) or, of a stack with a head of its own, (R, V); closed
                with this object.
            kept: (N,) int32, the token of each, ascending.
            vocab_size: V.
        """
        self._backend = backend
        self._kept = kept
        self._vocab_size = vocab_size
        self.contracts = {stack: self._widened(contract) for stack, contract in backend.contracts.items()}
        """What each stack takes and gives."""
        self._buffers: dict[StepShape, tuple[Float, StepBuffers]] = {}
        self._logits: dict[tuple[str, int], Float] = {}  # sizes of one signature share its logits

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._backend.shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size; `logits` are (R, V)."""
        if shape not in self._buffers:
            inner = self._backend.buffers(shape)
            logits = inner.logits
            if self._is_narrow(self._backend.contracts[shape.stack]):
                logits = self._wide_logits(shape)
            self._buffers[shape] = (inner.logits, replace(inner, logits=logits))
        return self._buffers[shape][1]

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step and spreads its logits."""
        wide = self.buffers(shape).logits
        self._backend.run(shape, cells)
        logits = self._buffers[shape][0]
        if logits is not wide:
            wide[:, self._kept] = logits

    def close(self) -> None:
        """Releases the model."""
        self._buffers.clear()
        self._logits.clear()
        self._backend.close()

    def _is_narrow(self, contract: StepContract) -> bool:
        """Whether a stack has the head that writes some tokens only."""
        return contract.logits.dims == ("R", len(self._kept))

    def _widened(self, contract: StepContract) -> StepContract:
        if not self._is_narrow(contract):
            return contract
        logits = replace(contract.logits, dims=("R", self._vocab_size))
        return replace(contract, outputs=(logits, *contract.outputs[1:]))

    def _wide_logits(self, shape: StepShape) -> Float:
        key = (shape.signature, shape.rows)
        logits = self._logits.get(key)
        if logits is None:
            logits = self._logits[key] = aligned_floats(shape.rows, self._vocab_size)
            logits[:] = MASKED
        return logits


def widen(backend: StepBackend, bundle: Bundle, variant: Variant) -> StepBackend:
    """The backend of a variant with logits over the whole vocabulary; itself where it has them.

    Raises:
        BundleError: the id map does not fit the head.
    """
    spec = bundle.manifest.decoder_of(variant)
    if spec.head_rows is None:
        return backend
    kept = np.asarray(read_id_map(bundle.file(ID_MAP_NAME)).old_ids, np.int64)
    if len(kept) != spec.head_rows or kept[-1] >= spec.vocab_size:
        raise BundleError(
            f"{ID_MAP_NAME} names {len(kept)} of {spec.vocab_size} tokens, the head has {spec.head_rows} "
            "rows; convert the bundle again"
        )
    return WideLogits(backend, kept.astype(np.int32), spec.vocab_size)


def widen_rows(rows: Float, kept: NDArray[np.int64], vocab_size: int) -> Float:
    """Spreads logits: (n, N) float32 to (n, V)."""
    wide = np.full((len(rows), vocab_size), MASKED, np.float32)
    wide[:, kept] = rows
    return wide
