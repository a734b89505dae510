"""Reads the configuration keys that all architectures share into a plain llama-like decoder.

An architecture takes the result and replaces what it does differently. Defaults are those of Hugging
Face's configuration classes; a size has none, so that a missing key is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgesdk.bundle.decoder_block import Activation, RotarySpec
from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.config_reader import ConfigReader

MAX_LAYERS = 1024

# `gelu` itself is the exact one, which no emitter has.
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}

IRRELEVANT = frozenset(
    {
        # names and versions
        "_name_or_path", "architectures", "model_type", "transformers_version", "transformers.js_config",
        "dtype", "torch_dtype", "unsloth_fixed", "unsloth_version", "is_llama_config",
        # training only
        "attention_dropout", "initializer_range", "pretraining_tp", "embd_pdrop", "resid_pdrop",
        "hidden_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "resid_dropout",
        "gradient_checkpointing", "neftune_noise_alpha", "use_labels",
        # the tokenizer's and the sampler's business
        "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id",
        "tokenizer_class", "prefix",
        "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
        "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
        "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
        "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
        "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
        "suppress_tokens", "begin_suppress_tokens",
        # how transformers itself runs
        "use_cache", "cache_implementation", "_attn_implementation", "_attn_implementation_autoset",
        "attn_implementation", "_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention",
        "use_flash_attention_2", "_experts_implementation", "keys_to_ignore_at_inference",
        "output_attentions", "output_hidden_states", "return_dict", "torchscript",
        "use_bfloat16", "tf_legacy_loss", "chunk_size_feed_forward", "finetuning_task", "problem_type",
        "task_specific_params", "id2label", "label2id", "num_labels", "is_decoder",
    }
)  # fmt: skip
"""Keys that cannot change the decoder of any architecture."""

HARMLESS: Mapping[str, tuple[JsonValue, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "quantization_config": ({},),
    "auto_map": ({},),
    # rotary embedding of other kinds, or another encoding of positions
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "rope_ratio": (1,),
    "alibi": (False,),
    # other blocks
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_bias": (False,),
    "use_qk_norm": (False,),
    "use_parallel_residual": (False,),
    "parallel_attn": (False,),
    "use_sliding_window": (False,),
    "use_bidirectional_attention": (False,),
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "enable_moe_block": (False,),
    "num_nextn_predict_layers": (0,),
    # scales
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "logits_scaling": (1,),
    "logit_scale": (1,),
}
"""Keys that would change the decoder, with the values at which they do not.

They matter where an architecture does not read the key itself. A null is harmless for every key.
"""


def read_common(
    config: ConfigReader,
    architecture: str,
    *,
    tied: bool = False,
    activation_key: str = "hidden_act",
    activation: str = "silu",
    needs_head_size: bool = False,
    ffn_key: str = "intermediate_size",
) -> UniformDecoder:
    """Reads sizes, norm, activation and head.

    Args:
        config: the configuration.
        architecture: name for the decoder.
        tied: whether the head is the embedding table when `tie_word_embeddings` is absent.
        activation_key: key of the feed-forward's activation.
        activation: when that key is absent.
        needs_head_size: `head_dim` must be there; otherwise it defaults to hidden size over heads.
        ffn_key: key of the feed-forward's size.

    Returns:
        A decoder without biases whose layers have neither window nor rotary settings yet.

    Raises:
        CheckpointError: a key is missing, out of range or has a value that is not supported.
    """
    heads, hidden = config.integer("num_attention_heads"), config.integer("hidden_size")
    head_size = config.integer("head_dim", None if needs_head_size else max(hidden // heads, 1))
    if not config.has("head_dim") and head_size * heads != hidden:
        raise CheckpointError(
            f"config.hidden_size {hidden} is no multiple of num_attention_heads {heads} and there is no "
            "head_dim; one of them is wrong"
        )
    name = config.text(activation_key, activation)
    if name not in ACTIVATIONS:
        raise config.error(activation_key, f"one of {', '.join(ACTIVATIONS)}")
    return UniformDecoder(
        architecture=architecture,
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden,
        ffn_size=config.integer(ffn_key),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads),
        head_size=head_size,
        context=config.integer("max_position_embeddings"),
        layers=(LayerSpec(None, None),) * config.integer("num_hidden_layers", maximum=MAX_LAYERS),
        norm_eps=config.number("rms_norm_eps"),
        activation=ACTIVATIONS[name],
        attention_scale=head_size**-0.5,
        tied_head=config.flag("tie_word_embeddings", tied),
    )


def read_windows(
    config: ConfigReader, layers: int, window: int | None, slides: Callable[[int], bool]
) -> tuple[int | None, ...]:
    """The sliding window of each layer, None for layers that see everything.

    Args:
        config: the configuration; `layer_types`, when there, overrides `slides`.
        layers: L.
        window: size in tokens of the layers that have one.
        slides: whether layer i has one.

    Raises:
        CheckpointError: a layer type is not known, or slides without a window size.
    """
    default = ["sliding_attention" if slides(i) else "full_attention" for i in range(layers)]
    windows: list[int | None] = []
    for kind in config.items("layer_types", layers) or default:
        if kind not in ("full_attention", "sliding_attention"):
            raise CheckpointError(
                f"config.layer_types has {kind!r}, expected full_attention or sliding_attention; other "
                "layer types are not supported"
            )
        if kind == "sliding_attention" and window is None:
            raise CheckpointError(
                "config.layer_types has sliding_attention, but no sliding_window is in use; give its size"
            )
        windows.append(window if kind == "sliding_attention" else None)
    return tuple(windows)


def make_layers(
    windows: Sequence[int | None], rotaries: Sequence[RotarySpec | None]
) -> tuple[LayerSpec, ...]:
    """One layer per pair of a window and a rotary setting."""
    return tuple(LayerSpec(w, r) for w, r in zip(windows, rotaries, strict=True))
