"""One entry into the weights of a variant's file, as the manifest describes it.

What the sizes of a stack take and give follows from it (`step_contract`); which sizes those are, a
`StepShape` says. It knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.port import Port, is_port_name
from edgesdk.bundle.step_shape import MAIN

RESERVED_PORTS = frozenset(("tokens", "positions", "mask", "window_mask", "rows", "logits"))
"""Ports of every decoder."""

HIDDEN = "hidden"
"""Output of the main stack where asked for: (R, E) what the head reads, in the checkpoint's own basis."""


@dataclass(frozen=True)
class StackRecord:
    """One entry into the weights of a variant's file, with ports and sizes of its own.

    Attributes:
        name: as sizes name it; `main` for what the model itself has beside the ports of every decoder.
        inputs: that it has beside those of every decoder.
        outputs: that it has beside logits: of every row (R, ..) or of every token (T, ..).
        decoder: its shape where it has cells of its own; None for one that reads the main stack's.
    """

    name: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    decoder: DecoderSpec | None = None

    def __post_init__(self) -> None:
        """Refuses what no stack is called, and ports that a step cannot have.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if not is_port_name(self.name):
            raise ValueError(f"{self.name[:60]!r} names no stack, expected an identifier in lower case")
        if self.name == MAIN and self.decoder is not None:
            raise ValueError("the main stack has the variant's own decoder, found another")
        names = [port.name for port in (*self.inputs, *self.outputs)]
        taken = set(names) & RESERVED_PORTS or {name for name in names if names.count(name) > 1}
        if taken:
            raise ValueError(f"stack {self.name[:60]!r} has the port {min(taken)!r} twice")
        for port in self.outputs:
            if port.dims[0] not in ("R", "T"):
                raise ValueError(
                    f"output {port.name!r} has the shape {port.dims}, expected (R, ..) or (T, ..)"
                )
