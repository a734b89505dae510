"""What a stack takes beside the inputs of every decoder: gates of adapters, and which rows are streams."""

from __future__ import annotations

from collections.abc import Sequence

from edgesdk.backends.protocol import StepBuffers
from edgesdk.bundle.stack_record import STREAMS
from edgesdk.bundle.step_contract import StepContract
from edgesdk.kv.cell_list import CellList
from edgesdk.kv.step_entry import StepEntry
from edgesdk.kv.step_gates import count_gates, fill_gates, show_gates
from edgesdk.kv.stream_rows import show_no_streams, show_streams


class FurtherInputs:
    """Fills them for each step of one stack.

    Attributes:
        gates: how many gates its tokens have.
    """

    def __init__(self, contract: StepContract) -> None:
        """Looks them up in the stack's contract."""
        self.gates = count_gates(contract)
        self._streams = any(port.name == STREAMS for port in contract.inputs)

    def fill(self, buffers: StepBuffers, entries: Sequence[StepEntry]) -> None:
        """Says them for a step of entries, whose rows follow one another.

        Raises:
            ValueError: an entry has streams that the stack has not.
        """
        if self.gates:
            fill_gates(buffers, entries)
        if self._streams:
            show_streams(buffers, entries)
        elif any(entry.drafts is not None and entry.drafts.streams is not None for entry in entries):
            raise ValueError("the drafts have streams, and the stack that runs has none")

    def fill_next(self, buffers: StepBuffers, cells: CellList) -> None:
        """Says them for a step of one token of one sequence."""
        if self.gates:
            show_gates(buffers, 0, len(buffers.tokens), cells.gates)
        if self._streams:
            show_no_streams(buffers)
