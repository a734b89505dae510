"""One block of a decoder, as data: what mixes tokens, and the feed-forward after it.

Either may be absent, so a stack that has lost some halves is a tuple of blocks like any other. What a mixer
keeps of a token is said here too: the runtime plans its cells from it, emitters and evaluator their products.
It knows nothing of weights but the number that their names begin with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgesdk.bundle.port import LARGEST_SIZE
from edgesdk.errors import quoted

Activation = Literal["silu", "gelu_tanh"]
RotaryKind = Literal["default", "linear", "llama3", "yarn", "longrope", "proportional"]
NormPlace = Literal["heads", "whole", "rotated"]


@dataclass(frozen=True)
class RotarySpec:
    """Rotary position embedding of one layer (RoFormer, section 3.4), half-split pairing.

    Attributes:
        kind: how frequencies are rescaled for long contexts.
        theta: base of the frequencies.
        size: how many of a head's D channels rotate (the first ones); the rest pass unchanged.
        factor: context extension factor (`linear`, `llama3`, `yarn`, `proportional`).
        original_context: context length the model was trained with (`llama3`, `yarn`, and for `growth`).
        low_freq_factor: `llama3` only.
        high_freq_factor: `llama3` only.
        beta_fast: `yarn` only.
        beta_slow: `yarn` only.
        attention_factor: cosine and sine are multiplied by it (`yarn`, `longrope`).
        truncate: `yarn` only: round the correction range to whole channels.
        factors: `longrope` only: what each of the size / 2 frequencies is divided by.
        growth: cosine and sine are multiplied by 1 + growth * ln(1 + floor(position / original_context)).
        turning: `proportional` only: how many of the size / 2 pairs rotate, the first ones; their
            frequencies are those of the whole size.
    """

    kind: RotaryKind
    theta: float
    size: int
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True
    factors: tuple[float, ...] = ()
    growth: float = 0.0
    turning: int = 0

    def __post_init__(self) -> None:
        """Refuses settings that no table can be made of.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        if len(self.factors) != (self.size // 2 if self.kind == "longrope" else 0):
            raise ValueError(f"{self.kind} rotation of {self.size} channels has {len(self.factors)} factors")
        if self.growth and (self.growth < 0 or self.original_context < 1):
            raise ValueError(f"growth is {self.growth} over a context of {self.original_context}")
        if not (0 < self.turning <= self.size // 2 if self.kind == "proportional" else self.turning == 0):
            raise ValueError(f"{self.kind} rotation of {self.size} channels turns {self.turning} pairs")


@dataclass(frozen=True)
class Attention:
    """A mixer: grouped-query attention over cells and new tokens.

    Attributes:
        heads: H.
        kv_heads: K; divides H.
        head_size: D.
        scale: scores are multiplied by it.
        window: a token sees itself and the `window - 1` tokens before it, and as many after it where tokens
            see the whole text; None sees everything.
        rotary: None for layers without position encoding.
        softcap: scores become cap * tanh(scores / cap).
        qkv_bias: q, k and v projections have a bias.
        out_bias: the output projection has a bias.
        qk_norm: RMS norm on q and k.
        qk_norm_place: what it norms: each head before rotation (qwen3, gemma3), all heads of a token
            together before they are split (olmo2), or each head after rotation (hunyuan).
        query_growth: `growth` of the rotation of queries; keys have none (ministral3).
        v_norm: RMS norm without a weight on the values of each head (gemma4).
        reads: number of the block whose keys and values it reads, which has no k and v of its own then;
            None for its own.
    """

    heads: int
    kv_heads: int
    head_size: int
    scale: float
    window: int | None = None
    rotary: RotarySpec | None = None
    softcap: float | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    reads: int | None = None
    qk_norm_place: NormPlace = "heads"
    query_growth: float = 0.0
    v_norm: bool = False

    def __post_init__(self) -> None:
        """Refuses shapes that no attention can have.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        for name in ("heads", "kv_heads", "head_size"):
            require_size(name, getattr(self, name))
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} KV heads evenly")
        if self.window is not None and self.window < 1:
            raise ValueError(f"a sliding window of {self.window} tokens sees nothing")
        if self.rotary is not None and not 0 < self.rotary.size <= self.head_size:
            raise ValueError(f"rotary size {self.rotary.size} does not fit heads of {self.head_size}")
        if self.query_growth and (self.rotary is None or self.rotary.size != self.head_size):
            raise ValueError("queries that grow with their position must rotate whole")

    @property
    def cells(self) -> tuple[int, int] | None:
        """(K, D) of the keys and the values that it keeps of a token; None where it reads another's."""
        return (self.kv_heads, self.head_size) if self.reads is None else None


@dataclass(frozen=True)
class Convolution:
    """A mixer: a gated causal convolution over the last tokens, channel by channel (lfm2).

    out(c * sum over j of tap_j * (b * x) of the token j before), where b, c and x are three projections of
    what the mixer reads. What it keeps of a token is b * x: E numbers.

    Attributes:
        kernel: k: how many tokens a channel sees, its own among them.
    """

    kernel: int

    def __post_init__(self) -> None:
        """Refuses kernels that see nothing, or more than steps hand in.

        Raises:
            ValueError: saying so; readers turn it into their own error.
        """
        if not 2 <= self.kernel <= MOST_TAPS:
            raise ValueError(f"a convolution sees {quoted(self.kernel)} tokens, expected 2 to {MOST_TAPS}")


MOST_TAPS = 8
"""Largest kernel of a convolution; published models have 3."""


@dataclass(frozen=True)
class FeedForward:
    """A gated feed-forward: down(activation(gate(x)) * up(x)).

    Attributes:
        size: F.
        activation: of the gate.
        bias: gate, up and down projections have a bias.
    """

    size: int
    activation: Activation
    bias: bool = False

    def __post_init__(self) -> None:
        """Refuses an empty one.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        require_size("ffn_size", self.size)


@dataclass(frozen=True)
class LayerInputs:
    """Embeddings of a token for every layer (gemma3n, gemma4): what a block adds after its feed-forward.

    They are (rms_norm(project(x)) + table[token] * sqrt(size)) / sqrt(2), where x is the embedded token,
    projected to all layers at once and divided by sqrt(E). A block adds
    out(activation(gate(stream)) * its own) to the stream.

    Attributes:
        size: numbers of a token for one layer.
        layers: that the table has numbers for; a block reads those of its number.
        activation: of the gate.
    """

    size: int
    layers: int
    activation: Activation

    def __post_init__(self) -> None:
        """Refuses empty ones.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        require_size("layer input size", self.size)
        require_size("layers of inputs", self.layers)


@dataclass(frozen=True)
class Block:
    """What is added to the residual stream: by the mixer, by the feed-forward, from the token itself.

    Attributes:
        number: in the checkpoint, which names its weights.
        mixer: mixes tokens; None where it was left out.
        feed_forward: likewise.
        layer_input: adds its own of the decoder's `LayerInputs` at its end.
        scaled: the stream is multiplied by a learned number at its very end.
    """

    number: int
    mixer: Convolution | Attention | None  # of a bad record the last one's complaint is told
    feed_forward: FeedForward | None
    layer_input: bool = False
    scaled: bool = False

    def __post_init__(self) -> None:
        """Refuses a block of nothing.

        Raises:
            ValueError: saying so; readers turn it into their own error.
        """
        if self.mixer is None and self.feed_forward is None and not self.layer_input:
            raise ValueError(f"block {self.number} has neither a mixer nor a feed-forward")

    @property
    def attention(self) -> Attention:
        """Its mixer.

        Raises:
            ValueError: it is no attention.
        """
        if not isinstance(self.mixer, Attention):
            raise ValueError(f"block {self.number} has no attention")
        return self.mixer

    @property
    def convolution(self) -> Convolution:
        """Its mixer.

        Raises:
            ValueError: it is no convolution.
        """
        if not isinstance(self.mixer, Convolution):
            raise ValueError(f"block {self.number} has no convolution")
        return self.mixer

    @property
    def ffn(self) -> FeedForward:
        """Its feed-forward.

        Raises:
            ValueError: it has none.
        """
        if self.feed_forward is None:
            raise ValueError(f"block {self.number} has no feed-forward")
        return self.feed_forward


def require_size(name: str, value: int) -> None:
    """Refuses a size that is none, or that no arrays could have.

    Raises:
        ValueError: naming the field.
    """
    if not 1 <= value <= LARGEST_SIZE:
        raise ValueError(f"{name} is {quoted(value)}, expected 1 to {LARGEST_SIZE}")
