"""Decoders whose blocks are alike but for windows and rotary embedding: one line each, made into blocks."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.bundle.decoder_block import (
    Activation,
    Attention,
    Block,
    FeedForward,
    NormPlace,
    RotarySpec,
)
from edgesdk.bundle.decoder_spec import DecoderSpec


@dataclass(frozen=True)
class LayerSpec:
    """What may differ from layer to layer.

    Attributes:
        window: as in `Attention`.
        rotary: as in `Attention`.
    """

    window: int | None
    rotary: RotarySpec | None


@dataclass(frozen=True)
class UniformDecoder:
    """A decoder of equal blocks, as most configurations describe one.

    Attributes:
        architecture: name in the architecture table.
        vocab_size: V.
        hidden_size: E.
        ffn_size: F of every block.
        heads: H of every block.
        kv_heads: K of every block.
        head_size: D of every block.
        context: longest sequence the checkpoint declares, in tokens.
        layers: one entry per block.
        norm_eps: as in `DecoderSpec`.
        activation: as in `FeedForward`.
        attention_scale: `scale` of every `Attention`.
        embedding_scale: as in `DecoderSpec`.
        residual_scale: as in `DecoderSpec`.
        logits_scale: as in `DecoderSpec`.
        qkv_bias: as in `Attention`.
        out_bias: as in `Attention`.
        ffn_bias: `bias` of every `FeedForward`.
        qk_norm: as in `Attention`.
        qk_norm_place: as in `Attention`.
        query_growth: as in `Attention`.
        pre_norms: as in `DecoderSpec`.
        post_norms: as in `DecoderSpec`.
        attention_softcap: `softcap` of every `Attention`.
        logits_softcap: as in `DecoderSpec`.
        tied_head: as in `DecoderSpec`.
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
    qk_norm_place: NormPlace = "heads"
    query_growth: float = 0.0
    pre_norms: bool = True
    post_norms: bool = False
    attention_softcap: float | None = None
    logits_softcap: float | None = None
    tied_head: bool = True

    def spec(self) -> DecoderSpec:
        """The decoder, block by block.

        Raises:
            ValueError: no decoder can have this shape; readers turn it into their own error.
        """
        return DecoderSpec(
            architecture=self.architecture,
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            context=self.context,
            blocks=tuple(
                Block(number, self._attention(layer), self._feed_forward())
                for number, layer in enumerate(self.layers)
            ),
            norm_eps=self.norm_eps,
            embedding_scale=self.embedding_scale,
            residual_scale=self.residual_scale,
            logits_scale=self.logits_scale,
            post_norms=self.post_norms,
            pre_norms=self.pre_norms,
            logits_softcap=self.logits_softcap,
            tied_head=self.tied_head,
        )

    def _attention(self, layer: LayerSpec) -> Attention:
        return Attention(
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_size=self.head_size,
            scale=self.attention_scale,
            window=layer.window,
            rotary=layer.rotary,
            softcap=self.attention_softcap,
            qkv_bias=self.qkv_bias,
            out_bias=self.out_bias,
            qk_norm=self.qk_norm,
            qk_norm_place=self.qk_norm_place,
            query_growth=self.query_growth,
        )

    def _feed_forward(self) -> FeedForward:
        return FeedForward(self.ffn_size, self.activation, self.ffn_bias)
