"""What the streams of a model are: rows of its own step that guess tokens further ahead.

After a token t the model's own row says token t+1. Stream j, a further row of the same step, says token
t+1+j, without knowing those between. Two forms:

    masks    the stream is a row from the first block on, with a learned state in place of an embedding
             (mask tokens; Samragh et al.: Your LLM Knows the Future, arXiv 2507.11851)
    streams  the stream begins before the top blocks as M_t + P_j: the state of its token there and a learned
             vector (Bhendawade et al.: Speculative Streaming, arXiv 2402.11131, section 3.1)

In both its position is t+j, it sees what its token sees, that token and the streams before it, and products
of its rows alone have low-rank parts beside the frozen weights. It knows no graph and no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edgesdk.bundle.decoder_block import Attention
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.bundle.stack_record import MOST_STREAMS
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget

FORMAT: Final = "edgesdk-streams"
VERSION: Final = 1
START = "start"
"""Tensor (G, E): the state that each stream begins with, or what is added to that of its token."""

PARTS = ("q", "k", "v", "o", "gate", "up", "down")
"""Products of a block that may have low-rank parts."""

StreamForm = Literal["masks", "streams"]


@dataclass(frozen=True)
class StreamConfig:
    """Sizes of the streams of one model.

    Attributes:
        form: where streams begin.
        count: G, tokens ahead of the model's own.
        first: place among the model's blocks of the first that runs them; 0 in the form masks.
        rank: r, of the low-rank parts.
        parts: products of each block that have them.
        target: what they were trained for.
        adapter: sha256 of the adapter (`adapter/adapter_model.safetensors`) that makes the model they were
            trained with of its target; None where that is the target itself.
        format, version: of the folder.
    """

    form: StreamForm
    count: int
    first: int
    rank: int
    parts: tuple[str, ...]
    target: DraftTarget
    adapter: str | None = None
    format: Literal["edgesdk-streams"] = FORMAT
    version: Literal[1] = VERSION

    def __post_init__(self) -> None:
        """Refuses what no streams can be.

        Raises:
            ValueError: naming it; readers turn it into their own error.
        """
        for what, value, most in (("count", self.count, MOST_STREAMS), ("rank", self.rank, LARGEST_SIZE)):
            if not 1 <= value <= most:
                raise ValueError(f"{what} of streams is {quoted(value)}, expected 1 to {most}")
        if not (1 <= self.first <= LARGEST_SIZE if self.form == "streams" else self.first == 0):
            expected = "at least 1" if self.form == "streams" else "0"
            raise ValueError(
                f"first of streams in the form {self.form} is {quoted(self.first)}, expected {expected}"
            )
        known = [part for part in PARTS if part in self.parts]
        if not known or list(self.parts) != known:
            raise ValueError(
                f"parts of streams are {', '.join(self.parts)[:80] or 'none'}, expected some of "
                f"{', '.join(PARTS)}, in this order"
            )


def adapted_weights(config: StreamConfig, spec: DecoderSpec) -> tuple[str, ...]:
    """Canonical names of the weights that have low-rank parts, in the order of blocks.

    Raises:
        UnsupportedOption: the model has no such blocks, or streams cannot be rows of it.
    """
    if spec.layer_inputs is not None:
        raise UnsupportedOption(
            f"{spec.architecture} reads an embedding of its token in every block, and a stream has no "
            "token; streams are for other architectures"
        )
    if spec.convolving:
        raise UnsupportedOption(
            f"{spec.architecture} has convolutions, which streams are not made for; streams are for models "
            "whose mixers are attention"
        )
    if config.first >= len(spec.blocks):
        raise UnsupportedOption(
            f"streams begin at block {config.first} of {len(spec.blocks)}, expected an earlier one"
        )
    names = []
    for block in spec.blocks[config.first :]:
        mixer = block.mixer
        has = set()
        if isinstance(mixer, Attention):
            has |= {"q", "o"} if mixer.reads is not None else {"q", "k", "v", "o"}
        if block.feed_forward is not None:
            has |= {"gate", "up", "down"}
        names += [f"layers.{block.number}.{part}" for part in config.parts if part in has]
    if not names:
        raise UnsupportedOption(f"the blocks have none of {', '.join(config.parts)}; choose other parts")
    return tuple(names)


def tensor_shapes(
    config: StreamConfig, spec: DecoderSpec, shape_of: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of streams.

    Args:
        config: of the streams.
        spec: of the model.
        shape_of: (O, I) of its weights by name.
    """
    shapes: dict[str, tuple[int, ...]] = {START: (config.count, spec.hidden_size)}
    for name in adapted_weights(config, spec):
        rows, columns = shape_of[name]
        shapes |= {f"{name}.A": (config.rank, columns), f"{name}.B": (rows, config.rank)}
    return shapes
