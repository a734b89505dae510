"""Random tiny decoders: every feature that a spec can express, in a few kilobytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.decoder_block import (
    Attention,
    Block,
    Convolution,
    FeedForward,
    LayerInputs,
    RotarySpec,
)
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk_converters.checkpoints.gguf_blocks import BLOCK_TYPES, decode_blocks
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import Weights
from edgesdk_converters.transforms.add_low_rank import LowRankTerm

ROTARY = RotarySpec("default", 10000.0, 16)

PLAIN = UniformDecoder(
    architecture="tiny",
    vocab_size=96,
    hidden_size=64,
    ffn_size=96,
    heads=4,
    kv_heads=2,
    head_size=16,
    context=256,
    layers=(LayerSpec(None, ROTARY), LayerSpec(None, ROTARY)),
    norm_eps=1e-5,
    activation="silu",
    attention_scale=0.25,
)

UNIFORM = {
    "plain": PLAIN,
    "untied": dataclasses.replace(PLAIN, tied_head=False),
    "biases": dataclasses.replace(PLAIN, qkv_bias=True, out_bias=True, ffn_bias=True),
    "qk_norm": dataclasses.replace(PLAIN, qk_norm=True),
    "windows": dataclasses.replace(PLAIN, layers=(LayerSpec(5, ROTARY), LayerSpec(None, ROTARY))),
    "no_rotary": dataclasses.replace(PLAIN, layers=(LayerSpec(None, ROTARY), LayerSpec(None, None))),
    "partial_rotary": dataclasses.replace(
        PLAIN, layers=(LayerSpec(None, dataclasses.replace(ROTARY, size=8)),) * 2
    ),
    "gemma_like": dataclasses.replace(
        PLAIN,
        layers=(LayerSpec(5, ROTARY), LayerSpec(None, dataclasses.replace(ROTARY, theta=1e6))),
        activation="gelu_tanh",
        embedding_scale=8.0,
        qk_norm=True,
        post_norms=True,
        attention_softcap=20.0,
        logits_softcap=15.0,
    ),
    "norms_after": dataclasses.replace(
        PLAIN, qk_norm=True, qk_norm_place="whole", pre_norms=False, post_norms=True
    ),
    "norms_of_rotated": dataclasses.replace(
        PLAIN,
        layers=(LayerSpec(None, dataclasses.replace(ROTARY, original_context=8)),) * 2,
        qk_norm=True,
        qk_norm_place="rotated",
        query_growth=0.5,
    ),
    "longrope": dataclasses.replace(
        PLAIN,
        layers=(LayerSpec(None, RotarySpec("longrope", 100.0, 8, factors=(1.0, 1.5, 2.0, 4.0))),) * 2,
    ),
    "scaled": dataclasses.replace(PLAIN, residual_scale=0.5, logits_scale=0.25, embedding_scale=2.0),
}


def mixed() -> DecoderSpec:
    """Two head sizes, layers that read another's cells with a window and without, a block of one half."""
    wide = RotarySpec("default", 1e6, 32)
    ffn = FeedForward(96, "silu")
    return dataclasses.replace(
        PLAIN.spec(),
        blocks=(
            Block(0, Attention(4, 2, 16, 0.25, window=5, rotary=ROTARY), ffn),
            Block(1, Attention(2, 1, 32, 32**-0.5, rotary=wide, qk_norm=True), FeedForward(64, "gelu_tanh")),
            Block(2, Attention(4, 2, 16, 0.25, window=5, rotary=ROTARY, reads=0), None),
            Block(4, Attention(4, 1, 32, 32**-0.5, rotary=wide, qk_norm=True, reads=1), ffn),
        ),
    )


def layer_inputs() -> DecoderSpec:
    """Embeddings of a token for every layer, normed values, pairs that stay, blocks that scale the stream."""
    some = RotarySpec("proportional", 100.0, 16, turning=3)
    ffn = FeedForward(96, "gelu_tanh")
    near = Attention(4, 2, 16, 0.25, window=5, rotary=ROTARY, qk_norm=True, v_norm=True)
    far = Attention(4, 2, 16, 0.25, rotary=some, qk_norm=True, v_norm=True)
    return dataclasses.replace(
        PLAIN.spec(),
        blocks=(
            Block(0, near, ffn, layer_input=True, scaled=True),
            Block(1, far, ffn, layer_input=True, scaled=True),
            Block(2, dataclasses.replace(near, reads=0), ffn, layer_input=True),
        ),
        post_norms=True,
        layer_inputs=LayerInputs(32, 3, "gelu_tanh"),
    )


def convolutions() -> DecoderSpec:
    """Convolutions between and behind attention, one without a feed-forward."""
    ffn, mixer = FeedForward(96, "silu"), Convolution(3)
    attention = Attention(4, 2, 16, 0.25, rotary=ROTARY, qk_norm=True)
    return dataclasses.replace(
        PLAIN.spec(),
        blocks=(
            Block(0, attention, ffn),
            Block(1, mixer, ffn),
            Block(2, mixer, None),
            Block(4, attention, ffn),
            Block(5, mixer, ffn),
        ),
    )


SPECS = {
    **{name: decoder.spec() for name, decoder in UNIFORM.items()},
    "mixed": mixed(),
    "layer_inputs": layer_inputs(),
    "convolutions": convolutions(),
}


class RandomWeights:
    """Weights drawn from their names: the same for everyone who asks."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def load(self, name: str) -> NDArray[np.float32]:
        random = np.random.default_rng(sum(name.encode()) * 7919 + len(name))
        values = random.standard_normal(self._shapes[name])
        if name.endswith(("norm", ".scale")):
            return (1 + 0.3 * values).astype(np.float32)
        spread = 0.3 if name.endswith("bias") else self._shapes[name][-1] ** -0.5
        return (values * spread).astype(np.float32)


class BlockWeights:
    """Other weights, their matrices rounded to GGUF blocks: of the type that a name is given, or none."""

    def __init__(self, base: Weights, type_of: Callable[[str], str | None]) -> None:
        self._base = base
        self._type_of = type_of

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._base.shape(name)

    def stored_type(self, name: str) -> str:
        kind = self.block_type(name)
        return "F32" if kind is None else kind.name

    def block_type(self, name: str) -> BlockType | None:
        return BLOCK_TYPES.get(self._type_of(name) or "") if len(self.shape(name)) == 2 else None

    def stored_blocks(self, name: str) -> StoredBlocks:
        import gguf

        kind = self.block_type(name)
        assert kind is not None
        raw = gguf.quants.quantize(self._base.load(name), gguf.GGMLQuantizationType[kind.name])
        return decode_blocks(raw, kind)

    def load(self, name: str) -> NDArray[np.float32]:
        if self.block_type(name) is None:
            return self._base.load(name)
        return self.stored_blocks(name).dequantise()


@pytest.fixture
def in_blocks() -> Callable[[Program, Callable[[str], str | None]], Program]:
    """A program whose matrices lie in blocks: of the GGUF type that a function names for each."""

    def make(program: Program, type_of: Callable[[str], str | None]) -> Program:
        return dataclasses.replace(program, weights=BlockWeights(program.weights, type_of))

    return make


@pytest.fixture
def make_program() -> Callable[[str], Program]:
    """A program by the name of its spec in `SPECS`."""

    def make(name: str) -> Program:
        spec = SPECS[name]
        graph = build_decoder(spec)
        shapes = {v.name: tuple(int(d) for d in v.shape) for v in graph.weights}
        return Program(spec, graph, RandomWeights(shapes))

    return make


@pytest.fixture(params=sorted(SPECS))
def any_program(request: pytest.FixtureRequest, make_program: Callable[[str], Program]) -> Program:
    """A program of every kind in turn."""
    return make_program(request.param)


@pytest.fixture(params=sorted(UNIFORM))
def uniform_program(request: pytest.FixtureRequest, make_program: Callable[[str], Program]) -> Program:
    """A program of every kind in turn whose layers all have cells of their own and one size."""
    return make_program(request.param)


ADAPTED = ("q", "k", "v", "o", "gate", "up", "down", "input_gate", "input_out", "conv_in", "conv_out")
"""Products of a block that terms of low rank can be added to, by the end of their weight's name."""


@pytest.fixture
def random_terms() -> Callable[..., dict[str, LowRankTerm]]:
    """Terms of two gates for a program, of ranks that differ; some products have none of the second gate."""

    def make(
        program: Program, ends: tuple[str, ...] | None = None, *, head: bool = True
    ) -> dict[str, LowRankTerm]:
        random, terms = np.random.default_rng(11), {}
        for node in program.graph.nodes:
            if not isinstance(node.op, Linear):
                continue
            name = node.inputs[1]
            rows, columns = program.weights.shape(name)
            logits = head and node.outputs[0].startswith("logits")
            if logits or name.rpartition(".")[2] in (ends or ADAPTED):
                ranks = (2, 3 if sum(name.encode()) % 2 else 0)
                inner = random.standard_normal((sum(ranks), columns)) * columns**-0.5
                written = random.standard_normal((rows, sum(ranks))) * 0.5
                terms[name] = LowRankTerm(ranks, inner.astype(np.float32), written.astype(np.float32))
        return terms

    return make


@pytest.fixture
def tokens() -> NDArray[np.int32]:
    """A text of 24 tokens."""
    return np.random.default_rng(5).integers(0, PLAIN.vocab_size, 24).astype(np.int32)
