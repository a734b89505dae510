"""What a stack is of a decoder that is cut into segments, between which its answer may be taken early.

A segment reads tokens or the stream of the segment before it, and gives the stream after its last block. The
head turns any stream into logits: the model's own norm and head. Where a token leaves early, a fill makes the
keys and values of a segment that was not run. The head over labels is the same head for some tokens only.
It knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.errors import quoted

Part = Literal["segment", "head", "labels", "fill"]

STREAM, NEXT_STREAM = "stream", "next_stream"
"""Ports of a segment: (T, E) the residual stream before its first block, and after its last, as the file
has it (rotated where the model's is)."""

CHANGES = (
    "attention_row",
    "attention_before",
    "feed_forward_row",
    "feed_forward_before",
    "stream_before",
)
"""Outputs of a segment before an exit: (R, E) what its last block's attention adds and what that of the block
before it added; likewise of the feed-forward; and the stream before the last block. For cosines."""

EXIT_HEAD, LABEL_HEAD = "exit_head", "label_head"
"""Names of the stacks with the head, and with the one over labels."""

LABELS = "labels"
"""Input of the head over labels: (R,) int32, the tokens that it gives logits (T, R) of."""

LABEL_COLUMNS = 16
"""R of the head over labels, and its T: more labels are asked in turns, fewer cost as much."""


@dataclass(frozen=True)
class ExitRecord:
    """A part of a decoder that is cut into segments.

    Attributes:
        part: `segment`, `head`, `labels` or `fill`.
        first: blocks that have run before it; 0 for a head.
        last: blocks that have run after it, or would have after a fill; 0 for a head.
    """

    part: Part
    first: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        """Refuses what no part is.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        if self.part not in get_args(Part):
            raise ValueError(f"a part of a decoder is {quoted(self.part)}, expected {get_args(Part)}")
        blocks = self.part in ("segment", "fill")
        sound = 0 <= self.first < self.last <= LARGEST_SIZE if blocks else self.first == self.last == 0
        if not sound:
            raise ValueError(f"a {self.part} has the blocks {quoted((self.first, self.last))}")

    @property
    def name(self) -> str:
        """What its stack is called."""
        if self.part == "segment":
            return segment_name(self.first, self.last)
        heads = {"head": EXIT_HEAD, "labels": LABEL_HEAD}
        return heads.get(self.part) or f"fill_{self.first}"


def segment_name(first: int, last: int) -> str:
    """The name of a segment's stack: `to_12`, or `from_12`."""
    return f"from_{first}" if first else f"to_{last}"


@dataclass(frozen=True)
class ExitStacks:
    """The parts of one variant, in order.

    Attributes:
        segments: from the first block to the last.
        labels: whether there is a head over labels; the first files with exits have none.
    """

    segments: tuple[ExitRecord, ...]
    labels: bool = False

    @property
    def exits(self) -> tuple[int, ...]:
        """Blocks after which an answer can be taken, the whole decoder's last."""
        return tuple(segment.last for segment in self.segments)

    @property
    def blocks(self) -> int:
        """Of the whole decoder."""
        return self.segments[-1].last

    @property
    def fills(self) -> tuple[ExitRecord, ...]:
        """What fills up each segment but the first."""
        return tuple(ExitRecord("fill", each.first, each.last) for each in self.segments[1:])


def exit_stacks(found: Mapping[str, ExitRecord], sized: Iterable[str], blocks: int) -> ExitStacks | None:
    """The parts that a variant describes; None where it describes none.

    Args:
        found: its records by the names of their stacks.
        sized: stacks that have sizes.
        blocks: of its decoder.

    Raises:
        ValueError: they are not a decoder in segments.
    """
    if not found:
        return None
    segments = sorted((r for r in found.values() if r.part == "segment"), key=lambda r: r.first)
    whole = ExitStacks(tuple(segments), any(record.part == "labels" for record in found.values()))
    bounds = [0, *(segment.last for segment in segments)]
    if len(segments) < 2 or [s.first for s in segments] != bounds[:-1] or bounds[-1] != blocks:
        raise ValueError(f"segments end after blocks {bounds[1:]}, expected {blocks} blocks in two or more")
    expected = {record.name: record for record in expected_parts(whole)}
    if expected != dict(found) or not set(expected) <= set(sized):
        odd = min(expected.keys() ^ found.keys() or expected.keys() - set(sized) or expected.keys())
        raise ValueError(f"the part {odd[:60]!r} of the decoder is missing, or is not what it is called")
    return whole


def expected_parts(whole: ExitStacks) -> Sequence[ExitRecord]:
    """Every record of a decoder in segments."""
    heads = [ExitRecord("head"), *([ExitRecord("labels")] if whole.labels else [])]
    return [*whole.segments, *heads, *whole.fills]
