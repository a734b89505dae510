"""Gemma 4 as text, dense (E2B, E4B): two head sizes, shared keys and values, embeddings for every layer.

Layers with a window have one head size, those that see everything another, of which only some channels
rotate. The last layers read keys and values of the last one of their kind before them, and may have a
feed-forward twice as wide. Values are normed without a weight, scores are not scaled. (transformers,
`modeling_gemma4.py`, `Gemma4TextModel`.) Experts, and layers whose values are their keys, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgesdk.bundle.decoder_block import Attention, Block, FeedForward, LayerInputs
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.uniform_decoder import UniformDecoder
from edgesdk_converters.architectures.architecture import Architecture, always
from edgesdk_converters.architectures.combine import Repeat
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import read_common, read_windows
from edgesdk_converters.architectures.names import POST_NORMS, llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary_section

GLOBAL_THETA, LOCAL_THETA = 1_000_000.0, 10_000.0
PATTERN = 6  # every sixth layer sees everything where `layer_types` does not say
Windows = Sequence[int | None]


def read_gemma4(config: ConfigReader) -> DecoderSpec:
    """Block by block: kinds of layers differ in sizes, the last ones in what they read."""
    config.expect("use_bidirectional_attention", "vision")  # of which text has none
    config.expect("enable_moe_block", False)
    config.expect("attention_k_eq_v", False)
    plain = read_common(
        config,
        "gemma4",
        tied=True,
        activation_key="hidden_activation",
        activation="gelu_pytorch_tanh",
        needs_head_size=True,
    )
    window, L = config.optional_integer("sliding_window"), len(plain.layers)
    windows = read_windows(config, L, window, lambda i: (i + 1) % PATTERN != 0)
    if windows[-1] is not None:
        raise config.error("layer_types", "full_attention in the last layer, which transformers makes of it")
    inputs = _read_layer_inputs(config, plain)
    return DecoderSpec(
        architecture=plain.architecture,
        vocab_size=plain.vocab_size,
        hidden_size=plain.hidden_size,
        context=plain.context,
        blocks=_read_blocks(config, plain, windows, layer_input=inputs is not None),
        norm_eps=plain.norm_eps,
        embedding_scale=math.sqrt(plain.hidden_size),
        post_norms=True,
        logits_softcap=config.optional_number("final_logit_softcapping"),
        tied_head=plain.tied_head,
        layer_inputs=inputs,
    )


def _read_blocks(
    config: ConfigReader, plain: UniformDecoder, windows: Windows, *, layer_input: bool
) -> tuple[Block, ...]:
    wide = replace(plain, head_size=_read_wide_head(config, windows))
    both = config.section("rope_parameters")
    everywhere = read_rotary_section(both.section("full_attention"), wide, GLOBAL_THETA)
    local = read_rotary_section(both.section("sliding_attention"), plain, LOCAL_THETA)
    both.finish()
    bias, doubled = config.flag("attention_bias", False), config.flag("use_double_wide_mlp", False)
    blocks = []
    for i, (window, reads) in enumerate(zip(windows, _read_shared(config, windows), strict=True)):
        mixer = Attention(
            heads=plain.heads,
            kv_heads=plain.kv_heads,
            head_size=wide.head_size if window is None else plain.head_size,
            scale=1.0,
            window=window,
            rotary=everywhere if window is None else local,
            qkv_bias=bias,
            out_bias=bias,
            qk_norm=True,
            v_norm=True,
            reads=reads,
        )
        size = plain.ffn_size * (2 if doubled and reads is not None else 1)
        blocks.append(Block(i, mixer, FeedForward(size, plain.activation), layer_input, scaled=True))
    return tuple(blocks)


def _read_wide_head(config: ConfigReader, windows: Windows) -> int:
    """Head size of layers that see everything: by its name, or layer by layer as transformers writes it."""
    if not config.has("per_layer_config"):
        return config.integer("global_head_dim")
    own, sizes = config.section("per_layer_config"), set()
    for i, window in enumerate(windows):
        if window is None:
            layer = own.section(str(i))
            sizes.add(layer.integer("head_dim"))
            layer.finish()
    own.finish()
    if len(sizes) > 1 or (config.has("global_head_dim") and sizes != {config.integer("global_head_dim")}):
        raise config.error("per_layer_config", "one head_dim, that of all layers that see everything")
    return sizes.pop()


def _read_shared(config: ConfigReader, windows: Windows) -> list[int | None]:
    """For every layer the one whose keys and values it reads; None for its own."""
    L = len(windows)
    first = L - config.integer("num_kv_shared_layers", 0, minimum=0, maximum=L - 1)
    last = {window: i for i, window in enumerate(windows[:first])}
    if not set(windows) <= set(last):
        raise config.error(
            "num_kv_shared_layers", "fewer: a layer of each kind has keys and values of its own"
        )
    return [None if i < first else last[window] for i, window in enumerate(windows)]


def _read_layer_inputs(config: ConfigReader, plain: UniformDecoder) -> LayerInputs | None:
    size = config.integer("hidden_size_per_layer_input", minimum=0)
    words = config.integer("vocab_size_per_layer_input", plain.vocab_size)
    if not size:
        return None
    if words != plain.vocab_size:
        raise config.error("vocab_size_per_layer_input", f"{plain.vocab_size} as vocab_size")
    return LayerInputs(size, len(plain.layers), plain.activation)


def _shares(spec: DecoderSpec) -> bool:
    return any(layer.reads is not None for layer in spec.layers)


_LAYER, _BLOCK = "model.layers.{i}", "blk.{i}"
_NAMES = llama_names(
    gguf_pairs=False,
    huggingface={
        **POST_NORMS,
        "layers.{i}.scale": f"{_LAYER}.layer_scalar",
        "layers.{i}.input_gate": f"{_LAYER}.per_layer_input_gate.weight",
        "layers.{i}.input_out": f"{_LAYER}.per_layer_projection.weight",
        "layers.{i}.input_post_norm": f"{_LAYER}.post_per_layer_input_norm.weight",
        "layer_inputs.embed": "model.embed_tokens_per_layer.weight",
        "layer_inputs.project": "model.per_layer_model_projection.weight",
        "layer_inputs.norm": "model.per_layer_projection_norm.weight",
    },
    gguf={
        "layers.{i}.scale": f"{_BLOCK}.layer_output_scale.weight",
        "layers.{i}.input_gate": f"{_BLOCK}.inp_gate.weight",
        "layers.{i}.input_out": f"{_BLOCK}.proj.weight",
        "layers.{i}.input_post_norm": f"{_BLOCK}.post_norm.weight",
        "layer_inputs.embed": "per_layer_token_embd.weight",
        "layer_inputs.project": "per_layer_model_proj.weight",
        "layer_inputs.norm": "per_layer_proj_norm.weight",
    },
    huggingface_combine={"layers.{i}.scale": Repeat()},
    gguf_combine={"layers.{i}.scale": Repeat()},
    # Released files keep what layers had before they read another's.
    huggingface_unused={
        f"model.layers.*.self_attn.{part}.weight": _shares for part in ("k_proj", "v_proj", "k_norm")
    },
    gguf_unused={
        **{f"blk.*.attn_{part}.weight": _shares for part in ("k", "v", "k_norm")},
        "rope_freqs.weight": always,  # read as the share of channels that rotate
    },
)

# Sizes of experts say nothing without any; other KV heads are those of layers whose values are their keys.
_IRRELEVANT = frozenset({"top_k_experts", "moe_intermediate_size", "num_global_key_value_heads"})
GEMMA4 = Architecture("gemma4", ("gemma4_text", "gemma4"), read_gemma4, _NAMES, irrelevant=_IRRELEVANT)
