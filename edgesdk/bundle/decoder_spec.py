"""The shape of a decoder, as data: what an architecture is once names and files are forgotten.

A decoder is a tuple of blocks, each with sizes of its own. Converters fill it from a checkpoint's
configuration; emitters read it; the runtime needs it to plan the cache and build masks. It knows nothing of
weights, quantisation or devices.

Letters used everywhere: T new tokens, S cached cells, R rows with logits, K KV heads, H query heads,
D head size, E hidden size, F feed-forward size, L layers that attend, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edgesdk.bundle.decoder_block import Attention, Block, Convolution, LayerInputs, require_size
from edgesdk.bundle.decoder_block import RotarySpec as RotarySpec  # part of this record
from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.errors import BundleError, quoted

HalfKind = Literal["attention", "mlp"]


@dataclass(frozen=True, order=True)
class Half:
    """One half of a block: what is added to the residual stream in one place.

    Attributes:
        layer: number of the block in the checkpoint, which names its weights.
        kind: `attention` runs before `mlp`, and sorts so.
    """

    layer: int
    kind: HalfKind

    def __str__(self) -> str:
        """As users write it: `5.attention`."""
        return f"{self.layer}.{self.kind}"


@dataclass(frozen=True)
class DecoderSpec:
    """A decoder-only transformer.

    Attributes:
        architecture: name in the architecture table, for people and receipts.
        vocab_size: V.
        hidden_size: E.
        context: longest sequence the checkpoint declares, in tokens.
        blocks: in the order in which they run; their numbers rise.
        norm_eps: epsilon of every RMS norm.
        embedding_scale: embeddings are multiplied by it (gemma: sqrt(E)).
        residual_scale: each block's two outputs are multiplied by it before they are added.
        logits_scale: logits are multiplied by it.
        post_norms: RMS norms on each block's outputs too (gemma3).
        pre_norms: RMS norms on what each half of a block reads; olmo2 has none.
        layer_inputs: embeddings of a token for every layer; None without them.
        logits_softcap: logits become cap * tanh(logits / cap).
        tied_head: the head is the embedding table.
        head_rows: rows of a head that writes some tokens only; None for one that writes all.
        is_causal: a token sees those before it; else the whole text, and the decoder gives states only: it
            has neither head nor cells, and a window reaches as far ahead as back (docs/decisions/0051).
        projection: W: states are put through a matrix (W, E) behind the last norm; None without one.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    context: int
    blocks: tuple[Block, ...]
    norm_eps: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_scale: float = 1.0
    post_norms: bool = False
    logits_softcap: float | None = None
    tied_head: bool = True
    head_rows: int | None = None
    pre_norms: bool = True
    layer_inputs: LayerInputs | None = None
    is_causal: bool = True
    projection: int | None = None

    def __post_init__(self) -> None:
        """Refuses shapes that no decoder can have.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        for name in ("vocab_size", "hidden_size"):
            require_size(name, getattr(self, name))
        if self.context < 1:
            raise ValueError(f"context is {quoted(self.context)}, expected at least 1")
        numbers = [block.number for block in self.blocks]
        if numbers != sorted(set(numbers)) or min(numbers, default=0) < 0:
            raise ValueError("the numbers of blocks must rise from 0 on")
        if not self.layers:
            raise ValueError("a decoder needs at least one layer with attention")
        self._check_cells()
        most = 0 if self.layer_inputs is None else self.layer_inputs.layers
        without = [block.number for block in self.blocks if block.layer_input and block.number >= most]
        if without:
            raise ValueError(f"block {without[0]} reads an embedding of its own, the table has {most}")
        if self.head_rows is not None and (self.tied_head or not 1 <= self.head_rows <= self.vocab_size):
            raise ValueError(
                f"head_rows is {self.head_rows}, expected 1 to {self.vocab_size} in a head of its own"
            )
        self._check_whole_text()

    def _check_whole_text(self) -> None:
        """Refuses what does not go with tokens that see the whole text, and a projection of logits."""
        if self.projection is not None:
            require_size("projection", self.projection)
        if self.is_causal:
            if self.projection is not None:
                raise ValueError("a decoder with a head has a projection, expected none behind its states")
        elif self.convolving or self.head_rows is not None or any(m.reads is not None for m in self.layers):
            raise ValueError(
                "tokens see the whole text, beside convolutions, a pruned head or layers that read another's "
                "cells; expected none of them"
            )

    def _check_cells(self) -> None:
        """Refuses layers that read cells which are not there, and masks that no step has."""
        windows = {layer.window for layer in self.layers if layer.window is not None}
        if len(windows) > 1:
            raise ValueError(f"layers have windows of {min(windows)} and {max(windows)} tokens, expected one")
        kernels = {block.convolution.kernel for block in self.convolving}
        if len(kernels) > 1:
            raise ValueError(
                f"convolutions see {min(kernels)} and {max(kernels)} tokens, expected one number"
            )
        kept = len(self.convolving) * self.predecessors * self.hidden_size
        if kept > LARGEST_SIZE:
            raise ValueError(
                f"{len(self.convolving)} convolutions take {kept} numbers of a token, expected at most "
                f"{LARGEST_SIZE}"
            )
        own: dict[int, tuple[int, int]] = {}
        for block in self.attending:
            mixer, reads = block.attention, block.attention.reads
            if reads is None:
                own[block.number] = (mixer.kv_heads, mixer.head_size)
            elif own.get(reads) != (mixer.kv_heads, mixer.head_size):
                raise ValueError(
                    f"block {block.number} reads the keys and values of block {reads}, expected an earlier "
                    f"one with {mixer.kv_heads} KV heads of {mixer.head_size} of its own"
                )

    def block(self, number: int) -> Block:
        """The block of a number.

        Raises:
            ValueError: there is none.
        """
        for block in self.blocks:
            if block.number == number:
                return block
        raise ValueError(f"the decoder has no block {number}")

    @cached_property
    def attending(self) -> tuple[Block, ...]:
        """The blocks with attention; a layer is one of them, and its number its place here."""
        return tuple(block for block in self.blocks if isinstance(block.mixer, Attention))

    @cached_property
    def convolving(self) -> tuple[Block, ...]:
        """The blocks with a convolution; what names in files number is their place here."""
        return tuple(block for block in self.blocks if isinstance(block.mixer, Convolution))

    @property
    def predecessors(self) -> int:
        """How many tokens before its own a convolution sees; 0 without convolutions."""
        return self.convolving[0].convolution.kernel - 1 if self.convolving else 0

    @cached_property
    def layers(self) -> tuple[Attention, ...]:
        """The attention of every layer, L in all."""
        return tuple(block.attention for block in self.attending)

    @cached_property
    def cell_layers(self) -> tuple[int, ...]:
        """For every layer, the one whose cells it reads: its own number, or an earlier one's."""
        places = {block.number: place for place, block in enumerate(self.attending)}
        own = ((block.number, block.attention.reads) for block in self.attending)
        return tuple(places[number if reads is None else reads] for number, reads in own)

    @property
    def is_uniform(self) -> bool:
        """Whether every layer has the first one's sizes, and cells of its own."""
        first = self.layers[0]
        sizes = (first.heads, first.kv_heads, first.head_size, None)
        return all((m.heads, m.kv_heads, m.head_size, m.reads) == sizes for m in self.layers)

    @property
    def ffn_sizes(self) -> tuple[int, ...]:
        """F of every kind of feed-forward, in the order in which each first occurs."""
        found = (block.feed_forward for block in self.blocks)
        return tuple(dict.fromkeys(ffn.size for ffn in found if ffn is not None))

    def describe_layers(self) -> str:
        """Heads of every kind of layer, and who shares cells: `4 heads over 2 of 16`."""
        kinds = dict.fromkeys((m.heads, m.kv_heads, m.head_size) for m in self.layers)
        told = ", ".join(f"{heads} heads over {kv_heads} of {size}" for heads, kv_heads, size in kinds)
        shared = sum(m.reads is not None for m in self.layers)
        told += f", {shared} layers that read another's cells" if shared else ""
        return told + (f", {len(self.convolving)} convolutions" if self.convolving else "")

    @property
    def uniform(self) -> Attention:
        """The first layer, for what knows one size only.

        Raises:
            BundleError: layers differ in their sizes, or one reads the cells of another.
        """
        if not self.is_uniform:
            raise BundleError(
                f"{self.architecture} has {self.describe_layers()}, expected one size for all; use a variant "
                "of another format"
            )
        return self.layers[0]

    @property
    def logits_size(self) -> int:
        """Logits that a row of the graph has."""
        return self.vocab_size if self.head_rows is None else self.head_rows

    @property
    def states_size(self) -> int:
        """W: numbers of a token's state."""
        return self.hidden_size if self.projection is None else self.projection

    @property
    def window(self) -> int | None:
        """The sliding window of the layers that have one (there is only one size per model)."""
        return next((layer.window for layer in self.layers if layer.window is not None), None)

    @property
    def halves(self) -> tuple[Half, ...]:
        """What can be left out of the stack, in the order in which it runs: everything but convolutions."""
        found = []
        for block in self.blocks:
            if isinstance(block.mixer, Attention):
                found.append(Half(block.number, "attention"))
            if block.feed_forward is not None:
                found.append(Half(block.number, "mlp"))
        return tuple(found)

    @property
    def cell_bytes(self) -> int:
        """Bytes that one cached token takes in float32: keys, values and what convolutions keep."""
        if not self.is_causal:
            return 0
        kept = (layer.cells for layer in self.layers)
        attention = sum(2 * heads * size * 4 for heads, size in (c for c in kept if c is not None))
        return attention + len(self.convolving) * self.hidden_size * 4
