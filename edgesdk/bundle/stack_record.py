"""One entry into the weights of a variant's file, as the manifest describes it.

What the sizes of a stack take and give follows from it (`step_contract`); which sizes those are, a
`StepShape` says. It knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.adapter_record import MOST_ADAPTERS
from edgesdk.bundle.decoder_block import MOST_TAPS
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.exit_record import ExitRecord
from edgesdk.bundle.port import LARGEST_SIZE, Port, is_port_name
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.stream_part import MOST_STREAMS as MOST_STREAMS
from edgesdk.bundle.stream_part import StreamPart
from edgesdk.errors import quoted

MASKS = ("mask", "window_mask")
"""Inputs that say who sees whom: of every layer, and of those with a window."""

RESERVED_PORTS = frozenset(("tokens", "positions", *MASKS, "rows", "logits"))
"""Ports of every decoder."""

HIDDEN = "hidden"
"""Output of the main stack where asked for: (R, E) what the head reads, in the checkpoint's own basis."""

STATES = "states"
"""Output of the main stack where asked for: (T, E) the last norm of every token, in the same basis."""

GATES = "gates"
"""Input of the main stack where it has terms of low rank: (T, G) for each token the factor of each."""

STREAMS = "streams"
"""Input of the main stack where it has streams: (T, G), 1 in column j - 1 of a row that is stream j."""

SOURCES = "sources"
"""Input where streams begin in the middle of the model: (T,) int32, the row whose state each goes on with."""

_MOST_PORTS = 64
"""That a stack has beside those of every decoder."""

BEFORE = "before"
"""Input of a decoder with convolutions, (T, convolutions * (k - 1) * E): what each keeps of the k - 1 tokens
before each new one, the nearest first, where those lie in cells; zeros elsewhere."""


def picks(predecessors: int) -> tuple[str, ...]:
    """Further inputs of such a decoder, one for each j from 1 to k - 1.

    Each is (T, T): a one where a new token is the j-th before another; zeros elsewhere.
    """
    return tuple(f"picks_{j}" for j in range(1, predecessors + 1))


DRAFT = "draft"
"""Name of the stack of a trained draft."""

DRAFT_IDS_NAME = "draft_vocabulary.json"
"""File of a variant's folder that says which tokens a trained draft proposes, an id map (`id_map`)."""

STATE, NEXT_STATE = "state", "next_state"
"""Ports of a trained draft: (T, E) what it knows of the text before a token, and with that token."""


@dataclass(frozen=True)
class DraftRecord:
    """A trained draft in the file of its target: a stack without cells.

    It takes a token and the state before it, and gives logits over tokens of its own and the state with that
    token. The first state is the target's output `hidden` of the row that chose the token.

    Attributes:
        hidden_size: E, of the states.
        vocabulary: V', how many tokens it proposes.
        ids: file of the bundle that says which of the target's tokens those are.
        depth: tokens ahead that it was trained for.
        size_bytes: of what only it reads in the file.
        top1_agreement: share of first choices that are those of the draft in float32; None where nobody
            measured.
    """

    hidden_size: int
    vocabulary: int
    ids: str
    depth: int
    size_bytes: int
    top1_agreement: float | None = None

    def __post_init__(self) -> None:
        """Refuses sizes and shares that no draft has.

        Raises:
            ValueError: naming one; readers turn it into their own error.
        """
        for what in ("hidden_size", "vocabulary", "depth"):
            if not 1 <= getattr(self, what) <= LARGEST_SIZE:
                value = quoted(getattr(self, what))
                raise ValueError(f"{what} of a draft is {value}, expected 1 to {LARGEST_SIZE}")
        if self.size_bytes < 0:
            raise ValueError(f"size_bytes of a draft is {quoted(self.size_bytes)}, expected 0 or more")
        if self.top1_agreement is not None and not 0 <= self.top1_agreement <= 1:  # NaN, too
            raise ValueError(f"top1_agreement of a draft is {self.top1_agreement}, expected 0 to 1")


@dataclass(frozen=True)
class StreamsRecord:
    """The streams of a model: rows of its step that say tokens further ahead.

    Attributes:
        form: `masks`, from the first block on, or `streams`, before the top blocks.
        count: G, tokens ahead of the model's own.
        layers: blocks that they run through.
        rank: of the low-rank parts that their rows have.
        size_bytes: of what only they read in the file.
    """

    form: Literal["masks", "streams"]
    count: int
    layers: int
    rank: int
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuses sizes that no streams have.

        Raises:
            ValueError: naming one; readers turn it into their own error.
        """
        for what, most in (("count", MOST_STREAMS), ("layers", LARGEST_SIZE), ("rank", LARGEST_SIZE)):
            if not 1 <= getattr(self, what) <= most:
                raise ValueError(f"{what} of streams is {quoted(getattr(self, what))}, expected 1 to {most}")
        if self.size_bytes < 0:
            raise ValueError(f"size_bytes of streams is {quoted(self.size_bytes)}, expected 0 or more")


@dataclass(frozen=True)
class StackRecord:
    """One entry into the weights of a variant's file, with ports and sizes of its own.

    Attributes:
        name: as sizes name it; `main` for what the model itself has beside the ports of every decoder.
        inputs: that it has beside those of every decoder.
        outputs: that it has beside logits: of every row (R, ..) or of every token (T, ..).
        decoder: its shape where it has cells of its own; None for one that reads the main stack's.
        draft: what it is where it is a trained draft, which has ports of its own kind and no cells.
        streams: what its streams are, where the main stack has some.
        exit: what it is where it is a part of the decoder in segments, with ports of its own kind; a segment
            and a fill have the decoder of their blocks.
        streamed: what it is where it runs tokens before streams begin, or both from there on; it has the
            decoder of its blocks, and `outputs` are those of the whole.
    """

    name: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    decoder: DecoderSpec | None = None
    draft: DraftRecord | None = None
    streams: StreamsRecord | None = None
    exit: ExitRecord | None = None
    streamed: StreamPart | None = None

    def __post_init__(self) -> None:
        """Refuses what no stack is called, and ports that a step cannot have.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if not is_port_name(self.name):
            raise ValueError(f"{self.name[:60]!r} names no stack, expected an identifier in lower case")
        if self.name == MAIN and self.decoder is not None:
            raise ValueError("the main stack has the variant's own decoder, found another")
        if self.draft is not None and (self.name != DRAFT or self.inputs or self.outputs or self.decoder):
            raise ValueError(f"stack {self.name[:60]!r} is a trained draft and something else")
        self._check_streams()
        if self.exit is not None:
            self._check_exit(self.exit)
        if self.streamed is not None:
            self._check_streamed(self.streamed)
        names = [port.name for port in (*self.inputs, *self.outputs)]
        if len(names) > _MOST_PORTS:
            raise ValueError(
                f"stack {self.name[:60]!r} has {len(names)} further ports, expected at most {_MOST_PORTS}"
            )
        reserved = RESERVED_PORTS.union((BEFORE, *picks(MOST_TAPS)))
        taken = set(names) & reserved or {name for name in names if names.count(name) > 1}
        if taken:
            raise ValueError(f"stack {self.name[:60]!r} has the port {min(taken)!r} twice")
        for port in self.inputs:
            if port.name == GATES and not _is_of_gates(port):
                raise ValueError(
                    f"input {GATES!r} is {port.dtype}{port.dims}, expected float32 of (T, number of gates), "
                    f"{MOST_ADAPTERS} at most"
                )
        for port in self.outputs:
            if port.dims[0] not in ("R", "T"):
                raise ValueError(
                    f"output {port.name!r} has the shape {port.dims}, expected (R, ..) or (T, ..)"
                )

    def _check_streams(self) -> None:
        """Refuses inputs of streams other than steps fill: which rows they are, and where those go on."""
        expected: dict[str, Port] = {}
        if self.streams is not None:
            expected[STREAMS] = Port(STREAMS, ("T", self.streams.count))
            if self.streams.form == "streams":
                expected[SOURCES] = Port(SOURCES, ("T",), "int32")
        found = {port.name: port for port in self.inputs if port.name in (STREAMS, SOURCES)}
        odd = next((name for name in (STREAMS, SOURCES) if found.get(name) != expected.get(name)), None)
        if odd is not None:
            raise ValueError(f"stack {self.name[:60]!r} does not say what its input {odd!r} is, or has none")

    def _check_exit(self, part: ExitRecord) -> None:
        if self.name != part.name or self.inputs or self.outputs or self.draft is not None:
            raise ValueError(f"stack {self.name[:60]!r} is a part of a decoder and something else")
        blocks = 0 if self.decoder is None else len(self.decoder.blocks)
        if blocks != part.last - part.first:
            raise ValueError(f"stack {self.name[:60]!r} describes {blocks} blocks, not those it runs")

    def _check_streamed(self, part: StreamPart) -> None:
        other = self.inputs or self.draft is not None or self.exit is not None or self.streams is not None
        if self.name != part.name or self.decoder is None or other or (part.part == "below" and self.outputs):
            raise ValueError(f"stack {self.name[:60]!r} is a part with streams and something else")


def _is_of_gates(port: Port) -> bool:
    """Whether steps can fill it: a float32 for each token and gate, no more of these than adapters."""
    whose, *counts = port.dims
    return whose == "T" and port.dtype == "float32" and counts in [[n] for n in range(1, MOST_ADAPTERS + 1)]
