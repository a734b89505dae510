"""LFM2 and LFM2.5: most blocks mix by a gated convolution over three tokens, the others by attention.

Settings and names are those of Hugging Face's `modeling_lfm2.py` and of the older files that it still reads,
which say some of them twice: then both must agree, or the one counts that counts in transformers. In GGUF
files the norm before the head is called `token_embd_norm`, and layers without KV heads are convolutions.
"""

from __future__ import annotations

from dataclasses import replace

from edgesdk.bundle.decoder_block import MOST_TAPS, Attention, Block, Convolution, FeedForward
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture, CombineOf
from edgesdk_converters.architectures.combine import Tap
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import MAX_LAYERS
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary

_THETA = 1e6
_CONVOLUTIONS = ("conv", "short_conv")


def read_lfm2(config: ConfigReader) -> DecoderSpec:
    """Norms on queries and keys; the feed-forward's size may be two thirds of the one that is written."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    eps = config.number("norm_eps", 1e-5)
    _expect_repeated(config, hidden, heads, eps)
    if hidden % heads:
        raise config.error("num_attention_heads", f"a divisor of hidden_size {hidden}")
    size = hidden // heads
    attends = _attends(config)
    plain = UniformDecoder(
        architecture="lfm2",
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        ffn_size=_ffn_size(config),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads"),
        head_size=config.integer("head_dim", size),
        context=config.integer("max_position_embeddings"),
        layers=(LayerSpec(None, None),) * len(attends),
        norm_eps=eps,
        activation="silu",
        attention_scale=size**-0.5,
        tied_head=config.flag("tie_embedding", config.flag("tie_word_embeddings", True)),
        qk_norm=True,
    )
    if plain.head_size != size:
        raise config.error("head_dim", f"{size}, hidden_size over num_attention_heads")
    attention = Attention(
        heads,
        plain.kv_heads,
        size,
        plain.attention_scale,
        rotary=read_rotary(config, plain, _THETA),
        qk_norm=True,
    )
    convolution = Convolution(config.integer("conv_L_cache", 3, minimum=2, maximum=MOST_TAPS))
    ffn = FeedForward(plain.ffn_size, plain.activation)
    blocks = tuple(
        Block(number, attention if mixes else convolution, ffn) for number, mixes in enumerate(attends)
    )
    return replace(plain.spec(), blocks=blocks)


def _expect_repeated(config: ConfigReader, hidden: int, heads: int, eps: float) -> None:
    """Older files say some settings twice, and some that have one value only."""
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        config.expect(key, hidden)
    config.expect("num_heads", heads)
    config.expect("block_norm_eps", eps)
    config.expect("block_use_swiglu", True)
    config.expect("use_pos_enc", True)
    config.expect("conv_bias", False)


def _attends(config: ConfigReader) -> list[bool]:
    """Of every layer whether it is attention."""
    count = config.integer("num_hidden_layers", maximum=MAX_LAYERS)
    kinds = config.items("layer_types", count)
    places = config.items("full_attn_idxs")
    if kinds is None:
        kinds = ["full_attention" if places is None or i in places else "conv" for i in range(count)]
    if any(kind not in ("full_attention", *_CONVOLUTIONS) for kind in kinds):
        raise config.error("layer_types", "full_attention or conv for every layer")
    return [kind == "full_attention" for kind in kinds]


def _ffn_size(config: ConfigReader) -> int:
    """The size that the blocks have; `block_ff_dim` goes before `intermediate_size`, as transformers does."""
    written = config.integer("block_ff_dim", config.integer("intermediate_size", 12288))
    multiple = config.integer("block_multiple_of", 256)
    factor = config.number("block_ffn_dim_multiplier", 1.0)
    if not config.flag("block_auto_adjust_ff_dim", True):
        return written
    size = int(factor * int(2 * written / 3))
    return multiple * ((size + multiple - 1) // multiple)


def _taps(*between: int) -> dict[str, CombineOf]:
    """The last column is the tap of the token itself; `between` are axes of one before the columns."""

    def tap(j: int) -> CombineOf:
        return lambda block: Tap(block.convolution.kernel - 1 - j, (*between, block.convolution.kernel))

    return {f"layers.{{i}}.taps.{j}": tap(j) for j in range(MOST_TAPS)}


_HF, _BLOCK = "model.layers.{i}", "blk.{i}"
_NAMES = llama_names(
    gguf_pairs=False,
    huggingface={
        "final_norm": "model.embedding_norm.weight",
        "layers.{i}.attn_norm": f"{_HF}.operator_norm.weight",
        "layers.{i}.mlp_norm": f"{_HF}.ffn_norm.weight",
        "layers.{i}.q_norm": f"{_HF}.self_attn.q_layernorm.weight",
        "layers.{i}.k_norm": f"{_HF}.self_attn.k_layernorm.weight",
        "layers.{i}.o": f"{_HF}.self_attn.out_proj.weight",
        "layers.{i}.gate": f"{_HF}.feed_forward.w1.weight",
        "layers.{i}.up": f"{_HF}.feed_forward.w3.weight",
        "layers.{i}.down": f"{_HF}.feed_forward.w2.weight",
        "layers.{i}.conv_in": f"{_HF}.conv.in_proj.weight",
        "layers.{i}.conv_out": f"{_HF}.conv.out_proj.weight",
        **{f"layers.{{i}}.taps.{j}": f"{_HF}.conv.conv.weight" for j in range(MOST_TAPS)},
    },
    huggingface_combine=_taps(1),
    gguf={
        "final_norm": "token_embd_norm.weight",
        "layers.{i}.conv_in": f"{_BLOCK}.shortconv.in_proj.weight",
        "layers.{i}.conv_out": f"{_BLOCK}.shortconv.out_proj.weight",
        **{f"layers.{{i}}.taps.{j}": f"{_BLOCK}.shortconv.conv.weight" for j in range(MOST_TAPS)},
    },
    gguf_combine=_taps(),
)

_TRAINING = frozenset(
    {"block_use_xavier_init", "block_mlp_init_scale", "block_out_init_scale", "conv_use_xavier_init"}
)
LFM2 = Architecture("lfm2", ("lfm2",), read_lfm2, _NAMES, irrelevant=_TRAINING)
