"""The gates of a step: for each of its tokens the factors that its sequence is run with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from edgesdk.backends.protocol import Float, StepBuffers
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.stack_record import GATES
from edgesdk.bundle.step_contract import StepContract
from edgesdk.errors import DeviceError
from edgesdk.kv.step_entry import StepEntry


def count_gates(contract: StepContract) -> int:
    """How many gates a step has."""
    return next((int(port.dims[1]) for port in contract.inputs if port.name == GATES), 0)


def check_gates(gates: Gates, there: int) -> Gates:
    """Gates that a step has.

    Raises:
        DeviceError: there are fewer.
    """
    if len(gates) > there:
        raise DeviceError(
            f"{len(gates)} adapters are to be run by a file with {there}; convert the model with them again"
        )
    return gates


def fill_gates(buffers: StepBuffers, entries: Iterable[StepEntry]) -> None:
    """Writes the gates of every token of a step; those that nobody runs have none."""
    first = 0
    for entry in entries:
        end = first + entry.rows
        show_gates(buffers, first, end, entry.cells.gates)
        first = end
    show_gates(buffers, first, len(buffers.tokens), ())


def show_gates(buffers: StepBuffers, first: int, end: int, gates: Gates) -> None:
    """Writes the gates of tokens [first, end); those beyond the ones that are given are 0."""
    rows = cast(Float, buffers.extra[GATES])[first:end]
    rows[:, : len(gates)] = gates
    rows[:, len(gates) :] = 0
