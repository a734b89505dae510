"""Prompts on one step backend, the tokens after them on another, over the same cells.

Cells are the host's memory in one layout, so the hand-off costs nothing. What decides is the size of a step:
a few tokens that all have logits are decoding, for several sequences or with drafts; others are a piece of a
prompt.
"""

from __future__ import annotations

from edgesdk.backends.protocol import Cells, StepBackend, StepBuffers
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_shape import MAIN
from edgesdk.errors import DeviceError


class SplitStepBackend:
    """Implements `StepBackend` over two."""

    def __init__(self, prefill: StepBackend, decode: StepBackend) -> None:
        """Takes over two backends of the same model, with equal weights.

        Args:
            prefill: runs prompts, and a few tokens at once where `decode` has sizes for one only.
            decode: runs steps that decode.

        Raises:
            DeviceError: they cannot work on the same cells.
        """
        self.contracts = {**prefill.contracts, **decode.contracts}
        """What each stack takes and gives."""
        for stack, contract in self.contracts.items():
            found = [b.contracts[stack] for b in (prefill, decode) if stack in b.contracts]
            if found[0].cell_type != contract.cell_type:
                raise DeviceError(
                    f"prefill has {found[0].cell_type} cells, decode {contract.cell_type}; run both on one "
                    "backend"
                )
            if found[0].groups != contract.groups:
                raise DeviceError("the layers of prefill and decode differ; run both on one backend")
            if found[0] != contract:
                raise DeviceError("the ports of prefill and decode differ; run both on one backend")
        self.prefill = prefill
        self.decode = decode
        few = {shape: decode for shape in decode.shapes if shape.decodes}
        alone = all(shape.tokens == 1 for shape in few if shape.stack == MAIN)
        many = {
            shape: prefill for shape in prefill.shapes if not shape.decodes or (alone and shape.tokens > 1)
        }
        if not many or not any(shape.tokens == 1 for shape in few if shape.stack == MAIN):
            lacking = (
                "prefill has no step of several tokens" if not many else "decode has no step of one token"
            )
            raise DeviceError(f"{lacking}; run both on one backend")
        most = [max(shape.cells for shape in sizes) for sizes in (many, few)]
        if most[0] != most[1]:
            raise DeviceError(
                f"prefill holds {most[0]} cells at most and decode {most[1]}; convert them alike"
            )
        # No size is in both. Whatever stack a size is of, it is a key.
        self._owners: dict[StepShape, StepBackend] = {**many, **few}
        self._shapes = tuple(sorted(self._owners))

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""
        return self._owners[shape].buffers(shape)

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on the backend of its size."""
        self._owners[shape].run(shape, cells)

    def close(self) -> None:
        """Releases both."""
        self.prefill.close()
        if self.decode is not self.prefill:
            self.decode.close()
