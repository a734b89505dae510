"""The shape of a decoder, as data: what an architecture is once names and files are forgotten.

Converters fill it from a checkpoint's configuration; emitters read it; the runtime needs it to plan
the cache and build masks. It knows nothing of weights, quantisation or devices.

Letters used everywhere: T new tokens, S cached cells, R rows with logits, K KV heads, H query heads,
D head size, E hidden size, F feed-forward size, L layers, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu_tanh"]
RotaryKind = Literal["default", "linear", "llama3", "yarn"]
HalfKind = Literal["attention", "mlp"]


@dataclass(frozen=True)
class RotarySpec:
    """Rotary position embedding of one layer (RoFormer, section 3.4), half-split pairing.

    Attributes:
        kind: how frequencies are rescaled for long contexts.
        theta: base of the frequencies.
        size: how many of a head's D channels rotate (the first ones); the rest pass unchanged.
        factor: context extension factor (`linear`, `llama3`, `yarn`).
        original_context: context length the model was trained with (`llama3`, `yarn`).
        low_freq_factor: `llama3` only.
        high_freq_factor: `llama3` only.
        beta_fast: `yarn` only.
        beta_slow: `yarn` only.
        attention_factor: cosine and sine are multiplied by it (`yarn`).
        truncate: `yarn` only: round the correction range to whole channels.
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


@dataclass(frozen=True)
class LayerSpec:
    """What may differ from layer to layer.

    Attributes:
        window: a token sees itself and the `window - 1` tokens before it; None sees everything.
        rotary: None for layers without position encoding.
    """

    window: int | None
    rotary: RotarySpec | None


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
        ffn_size: F.
        heads: H.
        kv_heads: K; divides H.
        head_size: D.
        context: longest sequence the checkpoint declares, in tokens.
        layers: one entry per layer with attention, which is one with cells; L in all.
        norm_eps: epsilon of every RMS norm.
        activation: of the gated feed-forward.
        attention_scale: scores are multiplied by it.
        embedding_scale: embeddings are multiplied by it (gemma: sqrt(E)).
        residual_scale: each block's two outputs are multiplied by it before they are added.
        logits_scale: logits are multiplied by it.
        qkv_bias: q, k and v projections have a bias.
        out_bias: the attention output projection has a bias.
        ffn_bias: gate, up and down projections have a bias.
        qk_norm: RMS norm over D on q and k before rotation (qwen3, gemma3).
        post_norms: RMS norms on each block's outputs too (gemma3).
        attention_softcap: scores become cap * tanh(scores / cap).
        logits_softcap: the same for logits.
        tied_head: the head is the embedding table.
        attention_layers: numbers in the checkpoint of the attention halves that are left, one per entry of
            `layers`; None for all of them.
        mlp_layers: the same for feed-forward halves; None for one after every attention of a whole stack.
        head_rows: rows of a head that writes some tokens only; None for one that writes all.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    ffn_size: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    layers: tuple[LayerSpec, ...]
    norm_eps: float
    activation: Activation
    attention_scale: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logits_scale: float = 1.0
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    tied_head: bool = True
    attention_layers: tuple[int, ...] | None = None
    mlp_layers: tuple[int, ...] | None = None
    head_rows: int | None = None

    def __post_init__(self) -> None:
        """Refuses shapes that no decoder can have.

        Raises:
            ValueError: naming the field; readers turn it into their own error.
        """
        for field in ("vocab_size", "hidden_size", "ffn_size", "heads", "kv_heads", "head_size", "context"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}, expected at least 1")
        if not self.layers:
            raise ValueError("a decoder needs at least one layer")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} KV heads evenly")
        for layer in self.layers:
            if layer.window is not None and layer.window < 1:
                raise ValueError(f"a sliding window of {layer.window} tokens sees nothing")
            if layer.rotary is not None and not 0 < layer.rotary.size <= self.head_size:
                raise ValueError(f"rotary size {layer.rotary.size} does not fit heads of {self.head_size}")
        if self.head_rows is not None and (self.tied_head or not 1 <= self.head_rows <= self.vocab_size):
            raise ValueError(
                f"head_rows is {self.head_rows}, expected 1 to {self.vocab_size} in a head of its own"
            )
        if self.attention_layers is not None and len(self.attention_layers) != len(self.layers):
            raise ValueError(
                f"attention_layers has {len(self.attention_layers)} numbers for {len(self.layers)} layers"
            )
        for name in ("attention_layers", "mlp_layers"):
            numbers = getattr(self, name)
            if numbers is not None and (list(numbers) != sorted(set(numbers)) or min(numbers, default=0) < 0):
                raise ValueError(f"{name} must hold rising numbers from 0")

    @property
    def logits_size(self) -> int:
        """Logits that a row of the graph has."""
        return self.vocab_size if self.head_rows is None else self.head_rows

    @property
    def window(self) -> int | None:
        """The sliding window of the layers that have one (there is only one size per model)."""
        return next((layer.window for layer in self.layers if layer.window is not None), None)

    @property
    def halves(self) -> tuple[Half, ...]:
        """What the stack is made of, in the order in which it runs."""
        whole = tuple(range(len(self.layers)))
        attention = whole if self.attention_layers is None else self.attention_layers
        mlp = attention if self.mlp_layers is None else self.mlp_layers
        return tuple(sorted([*(Half(i, "attention") for i in attention), *(Half(i, "mlp") for i in mlp)]))

    @property
    def cell_bytes(self) -> int:
        """Bytes of float32 keys and values that one cached token takes."""
        return 2 * len(self.layers) * self.kv_heads * self.head_size * 4
