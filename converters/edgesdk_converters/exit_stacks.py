"""A decoder in segments beside the whole one, in the same file and on the same weights.

What is written: a segment up to each exit and one behind the last, the head (the model's norm and its head)
as a stack of its own, which runs only where somebody looks, the same head over a few tokens that are named
while it runs, and fills that make the keys and values of
segments that are not run. Whoever does not leave early runs the whole decoder as if none of this were there
(docs/decisions/0034).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from edgesdk.bundle.exit_record import LABEL_COLUMNS, ExitRecord, ExitStacks, expected_parts
from edgesdk.bundle.stack_record import StackRecord
from edgesdk.bundle.step_contract import exit_contract
from edgesdk.bundle.step_shape import StepShape
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk_converters.emit.further_stack import FurtherStack, WrittenParts
from edgesdk_converters.graph.program import Program
from edgesdk_converters.transforms.cut_blocks import (
    check_cuttable,
    take_blocks,
    take_fill,
    take_head,
    take_label_head,
)
from edgesdk_converters.transforms.give_hidden import logits_alone

_TOKENS = (1, 4, 8, 16, 32, 64, 96, 128)
HEAD_TOKENS = (1, 2, 4, 8, 16)


def parse_exits(text: str) -> tuple[int, ...]:
    """Reads `12,18,24`: how many blocks run before each exit.

    Raises:
        UnsupportedOption: it is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 5 for part in parts):
        raise UnsupportedOption(f"exits are {quoted(text)}, expected numbers of blocks such as 12,18,24")
    exits = tuple(int(part) for part in parts)
    if list(exits) != sorted(set(exits)) or exits[0] < 2:
        raise UnsupportedOption(f"exits are {quoted(text)}, expected rising numbers of blocks from 2 on")
    return exits


def check_exits(program: Program, exits: Sequence[int]) -> None:
    """Refuses a model that cannot be left after these blocks, reading no weight.

    Raises:
        TransformError: saying why.
    """
    check_cuttable(program.spec, exits)


def write_exits(program: Program, exits: Sequence[int], steps: Sequence[StepShape]) -> WrittenParts:
    """What is written beside a whole decoder.

    Args:
        program: the whole, after every other transform.
        exits: how many blocks run before each exit.
        steps: sizes of the whole; segments have some of them.

    Raises:
        TransformError: it cannot be cut.
    """
    check_exits(program, exits)
    whole = logits_alone(program)
    bounds = (0, *exits, len(program.spec.blocks))
    segments = tuple(ExitRecord("segment", a, z) for a, z in pairwise(bounds))
    stacks, records = [], []
    for part in expected_parts(ExitStacks(segments, labels=True)):
        cut = _program_of(part, whole)
        described = cut.spec if part.part in ("segment", "fill") else None
        contract = exit_contract(part, cut.spec, len(program.spec.blocks))
        sizes = _sizes(part, steps)
        stacks.append(FurtherStack(cut, sizes, contract=contract))
        records.append(StackRecord(part.name, decoder=described, exit=part))
    return WrittenParts(tuple(stacks), tuple(records))


def _program_of(part: ExitRecord, whole: Program) -> Program:
    if part.part == "segment":
        return take_blocks(whole, part.first, part.last)
    if part.part == "fill":
        return take_fill(whole, part.first, part.last)
    return take_head(whole) if part.part == "head" else take_label_head(whole)


def _sizes(part: ExitRecord, steps: Sequence[StepShape]) -> tuple[StepShape, ...]:
    """Sizes of a part: segments have some of the whole, a head is run where it is asked, a fill for one."""
    name = part.name
    if part.part == "fill":
        return (StepShape(1, 1, 1, name, name),)
    resized = len({step.signature for step in steps}) < len(steps)
    if part.part == "head":
        names = {T: f"{name}_{'few' if resized and T > 1 else T}" for T in HEAD_TOKENS}
        return tuple(StepShape(T, 1, T, signature, name) for T, signature in names.items())
    if part.part == "labels":
        return (StepShape(LABEL_COLUMNS, 1, LABEL_COLUMNS, name, name),)
    # Nobody asks a segment for the logits of every token of a prompt.
    kept = [s for s in steps if s.tokens in _TOKENS and (s.decodes or s.rows < s.tokens)]
    return tuple(replace(step, signature=f"{name}_{step.signature}", stack=name) for step in kept)
