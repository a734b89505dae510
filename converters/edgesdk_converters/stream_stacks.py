"""Two further stacks for a decoder whose streams begin in its middle, on the same weights.

With them a step of tokens and streams runs the tokens alone through the blocks below, and both through those
above; the whole decoder runs everything else, and such a step where no size of theirs fits
(docs/decisions/0039).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgesdk.bundle.manifest import CellType
from edgesdk.bundle.stack_record import StackRecord
from edgesdk.bundle.step_contract import stream_part_contract
from edgesdk.bundle.step_shape import StepShape
from edgesdk.bundle.stream_part import StreamPart
from edgesdk_converters.emit.further_stack import FurtherStack, WrittenParts
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import program_contract
from edgesdk_converters.streams.stream_config import StreamConfig
from edgesdk_converters.transforms.cut_streams import can_cut_streams, take_below, take_top

_MOST_BELOW = 8
"""Tokens of a step with streams that the blocks below have sizes for; more of them run through the whole."""


def write_streams_apart(
    program: Program, config: StreamConfig, steps: Sequence[StepShape], cell_type: CellType = "float32"
) -> WrittenParts | None:
    """The two parts; None where streams begin at the first block, or the decoder cannot be cut there.

    Args:
        program: the whole, after every other transform.
        config: of its streams.
        steps: sizes of the whole; the parts have those that decode.
        cell_type: how cells are stored.
    """
    if config.form != "streams" or not can_cut_streams(program.spec, config.first):
        return None
    decoding = [step for step in steps if step.decodes]
    plain = program_contract(program)
    outputs = tuple(port for port in plain.outputs if port.name != "logits")
    below = StreamPart("below", config.first, config.count)
    top = StreamPart("top", config.first, config.count)
    stacks, records = [], []
    for part, cut, further in (
        (below, take_below(program, config.first), ()),
        (top, take_top(program, config.first), outputs),
    ):
        sizes = tuple(
            replace(step, signature=f"{part.name}_{step.signature}", stack=part.name)
            for step in decoding
            if (step.tokens <= _MOST_BELOW if part is below else step.tokens > 1)
        )
        contract = stream_part_contract(part, cut.spec, further, cell_type)
        stacks.append(FurtherStack(cut, sizes, contract=contract))
        records.append(StackRecord(part.name, outputs=further, decoder=cut.spec, streamed=part))
    return WrittenParts(tuple(stacks), tuple(records))
