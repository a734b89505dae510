"""Makes the tiny random checkpoints and reference logits in tests/data/tiny.

Needs torch and transformers, which nothing else in the project does; run it by hand when an
architecture is added, with the versions that tests/data/tiny/README.md names:

    python tests/data/make_tiny_checkpoints.py

Each checkpoint is a complete Hugging Face directory: bfloat16 weights, byte-level BPE tokenizer, chat
template, `reference.npz`. A variant is another configuration (`config.NAME.json`) for the same weights
with its own `reference.NAME.npz`. Logits come from transformers in eager attention and float64
(transformers itself keeps norms, angles and softmax in float32).

Before anything is written the script switches every feature of an architecture off, one at a time, and
fails if the logits do not change by at least MIN_CHANGE of their largest magnitude: a reference that
does not depend on a feature would not test it.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

OUT = Path(__file__).parent / "tiny"
MIN_CHANGE = 1e-2
VOCAB = 288
LENGTHS = (36, 20)
SPECIALS = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
BASE: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}

Change = Callable[[PreTrainedModel], None]


def without(*modules: str) -> Change:
    """Replaces modules of every layer by the identity."""

    def change(model: PreTrainedModel) -> None:
        for layer in model.model.layers:
            for module in modules:
                parent, _, name = module.rpartition(".")
                setattr(layer.get_submodule(parent), name, torch.nn.Identity())

    return change


def without_own(module: str) -> Change:
    """The same, in those layers that have it."""

    def change(model: PreTrainedModel) -> None:
        parent, _, name = module.rpartition(".")
        for layer in model.model.layers:
            owner = dict(layer.named_modules()).get(parent)
            if hasattr(owner, name):
                setattr(owner, name, torch.nn.Identity())

    return change


def filled(part: str, number: float) -> Change:
    """Gives all parameters and buffers whose name has a part one value."""

    def change(model: PreTrainedModel) -> None:
        for name, value in model.state_dict().items():
            if part in name:
                value.fill_(number)

    return change


def only_last_tap(model: PreTrainedModel) -> None:
    """Has convolutions see their own token only."""
    for name, value in model.state_dict().items():
        if name.endswith("conv.conv.weight"):
            value[..., :-1] = 0


def zero_biases(*suffixes: str) -> Change:
    """Zeroes the biases of projections whose name ends so."""

    def change(model: PreTrainedModel) -> None:
        for name, parameter in model.named_parameters():
            if name.endswith(tuple(f"{suffix}.bias" for suffix in suffixes)):
                parameter.data.zero_()

    return change


def rope(**settings: object) -> dict[str, object]:
    """`rope_parameters` of one kind."""
    return {"rope_parameters": {"rope_theta": 10000.0, **settings}}


@dataclass(frozen=True)
class Tiny:
    """One checkpoint.

    Attributes:
        model_type: of transformers.
        config: differences from BASE.
        off: how to switch each feature off: changed configuration keys, or a change to the model.
        variants: other configurations for the same weights.
        drop: keys of BASE that the architecture does not know.
        shards: how many weight files.
        written: keys of the written configuration in place of transformers', None for none: for models that
            it has no code for, as another one that computes the same.
    """

    model_type: str
    config: Mapping[str, object]
    off: Mapping[str, Mapping[str, object] | Change]
    variants: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    shards: int = 1
    written: Mapping[str, object] = field(default_factory=dict)


LLAMA_VARIANTS = {
    "rope-linear": rope(rope_type="linear", factor=4.0),
    "rope-llama3": rope(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=32,
    ),
    "rope-yarn": rope(
        rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=1.0
    ),
    "rope-yarn-mscale": rope(
        rope_type="yarn",
        factor=8.0,
        original_max_position_embeddings=32,
        beta_fast=4.0,
        beta_slow=0.5,
        mscale=2.0,
        mscale_all_dim=0.5,
        truncate=False,
    ),
}

SCALES: Mapping[str, object] = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.125,
    "residual_multiplier": 0.5,
    "logits_scaling": 4.0,
}


def nested(
    text: Mapping[str, object], vision: str = "siglip_vision_model", **more: object
) -> dict[str, object]:
    """A wrapper's configuration around BASE with changes, and a vision tower of one layer."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "text_config": {**BASE, **text},
        "vision_config": {"model_type": vision, **sizes, "image_size": 28, "patch_size": 14},
        **more,
    }


OLMO3_LOCAL = {"rope_type": "default", "rope_theta": 10000.0}
OLMO3_ROPE = {
    "full_attention": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 4.0,
        "beta_slow": 1.0,
        "attention_factor": 1.2,
    },
    "sliding_attention": OLMO3_LOCAL,
}
LONGROPE: Mapping[str, object] = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "short_factor": [1.0, 1.5, 2.0, 4.0],
    "long_factor": [1.0, 3.0, 6.0, 12.0],
    "partial_rotary_factor": 0.5,
}
MINISTRAL3_YARN: Mapping[str, object] = {
    "rope_type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 8,
    "beta_fast": 4.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.7,
}
MINISTRAL3_ROPE = rope(**MINISTRAL3_YARN)
NOT_GROWN = rope(**{**MINISTRAL3_YARN, "llama_4_scaling_beta": 0.0})
MINISTRAL3: Mapping[str, object] = {"model_type": "ministral3", **MINISTRAL3_ROPE}

GEMMA3_TEXT: Mapping[str, object] = {
    "model_type": "gemma3_text",
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 24,
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}

GEMMA4_LOCAL: Mapping[str, object] = {"rope_type": "default", "rope_theta": 10000.0}
GEMMA4_WHOLE: Mapping[str, object] = {"rope_type": "default", "rope_theta": 100.0}
GEMMA4_ROPE: Mapping[str, object] = {
    "full_attention": {"rope_type": "proportional", "rope_theta": 100.0, "partial_rotary_factor": 0.25},
    "sliding_attention": GEMMA4_LOCAL,
}
GEMMA4_TEXT: Mapping[str, object] = {
    "num_hidden_layers": 5,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", *["sliding_attention"] * 2, "full_attention"],
    "global_head_dim": 32,
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
    "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 16,
    "final_logit_softcapping": 5.0,
    "rope_parameters": GEMMA4_ROPE,
}

GEMMA4_NESTED: Mapping[str, object] = {"model_type": "gemma4_text", **GEMMA4_TEXT}
GEMMA4_VISION: Mapping[str, object] = {
    "model_type": "gemma4_vision",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "position_embedding_size": 16,
}
QWEN25_VL_ROPE: Mapping[str, object] = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "mrope_section": [2, 3, 3],
}
QWEN25_VL: Mapping[str, object] = {"model_type": "qwen2_5_vl_text", "rope_parameters": QWEN25_VL_ROPE}
QWEN25_VL_VISION: Mapping[str, object] = {
    "model_type": "qwen2_5_vl",
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
    "fullatt_block_indexes": [0],
}

CHECKPOINTS: dict[str, Tiny] = {
    "llama": Tiny("llama", {}, {"rotation": rope(rope_type="default", rope_theta=1e9)}, LLAMA_VARIANTS),
    "llama-untied-bias": Tiny(
        "llama",
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        {
            "q, k and v bias": zero_biases("q_proj", "k_proj", "v_proj"),
            "output bias": zero_biases("o_proj"),
            "feed-forward bias": zero_biases("gate_proj", "up_proj", "down_proj"),
        },
        shards=2,
    ),
    "mistral": Tiny(
        "mistral",
        {"sliding_window": 7},
        {"window": {"sliding_window": None}},
    ),
    "qwen2": Tiny(
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
        {"bias": zero_biases("q_proj", "k_proj", "v_proj"), "window": {"sliding_window": 200}},
        drop=("head_dim",),
    ),
    "qwen3": Tiny(
        "qwen3",
        {"head_dim": 32},
        {"q norm": without("self_attn.q_norm"), "k norm": without("self_attn.k_norm")},
    ),
    "gemma2": Tiny(
        "gemma2",
        {
            "sliding_window": 6,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
            "hidden_activation": "gelu_pytorch_tanh",
        },
        {
            "window": {"sliding_window": 200},
            "score cap": {"attn_logit_softcapping": None},
            "logits cap": {"final_logit_softcapping": None},
            "scale": {"query_pre_attn_scalar": 16},
            "norm after attention": without("post_attention_layernorm"),
            "norm after feed-forward": without("post_feedforward_layernorm"),
            "activation": {"hidden_activation": "silu"},
        },
    ),
    "gemma3": Tiny(
        "gemma3_text",
        {
            "num_hidden_layers": 3,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "query_pre_attn_scalar": 24,
            "final_logit_softcapping": 5.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {
            "window": {"sliding_window": 200},
            "logits cap": {"final_logit_softcapping": None},
            "scale": {"query_pre_attn_scalar": 16},
            "q norm": without("self_attn.q_norm"),
            "k norm": without("self_attn.k_norm"),
            "norm after attention": without("post_attention_layernorm"),
            "norm after feed-forward": without("post_feedforward_layernorm"),
            "global theta and scaling": rope(
                full_attention={"rope_type": "default", "rope_theta": 10000.0},
                sliding_attention={"rope_type": "default", "rope_theta": 10000.0},
            ),
            "local theta": rope(
                full_attention={"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0},
                sliding_attention={"rope_type": "default", "rope_theta": 100.0},
            ),
        },
    ),
    "phi3": Tiny(
        "phi3",
        {"tie_word_embeddings": False, "sliding_window": 11, "partial_rotary_factor": 0.5},
        {
            "window": {"sliding_window": None},
            "partial rotation": rope(rope_type="default", partial_rotary_factor=1.0),
        },
        drop=("head_dim",),
    ),
    "smollm3": Tiny(
        "smollm3",
        {"no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
        {"layer without rotation": {"no_rope_layers": [1, 1]}},
        drop=("head_dim",),
    ),
    "internlm3": Tiny(
        "internlm3",
        {"attention_bias": True, "mlp_bias": True, **rope(rope_type="dynamic", factor=6.0)},
        {
            "rotation": rope(rope_type="default", rope_theta=1e9),
            "q, k and v bias": zero_biases("q_proj", "k_proj", "v_proj"),
            "output bias": zero_biases("o_proj"),
            "feed-forward bias": zero_biases("gate_proj", "up_proj", "down_proj"),
        },
    ),
    "iquestcoder": Tiny(
        "iquestcoder",
        {"tie_word_embeddings": False},
        {"rotation": rope(rope_type="default", rope_theta=1e9)},
    ),
    "seed_oss": Tiny(
        "seed_oss",
        {"attention_bias": True, "attention_out_bias": True, "head_dim": 32},
        {
            "q, k and v bias": zero_biases("q_proj", "k_proj", "v_proj"),
            "output bias": zero_biases("o_proj"),
        },
    ),
    "ministral": Tiny(
        "ministral",
        {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
        {"window": {"sliding_window": 200}, "layer types": {"layer_types": ["full_attention"] * 2}},
    ),
    "cwm": Tiny(
        "cwm",
        {
            "sliding_window": 9,
            "num_hidden_layers": 3,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            **LLAMA_VARIANTS["rope-llama3"],
        },
        {"window": {"sliding_window": 200}, "scaling": rope(rope_type="default")},
    ),
    "ernie4_5": Tiny(
        "ernie4_5",
        {"use_bias": True},
        {
            "rotation": rope(rope_type="default", rope_theta=1e9),
            "q, k and v bias": zero_biases("q_proj", "k_proj", "v_proj"),
            "output bias": zero_biases("o_proj"),
            "feed-forward bias": zero_biases("gate_proj", "up_proj", "down_proj"),
        },
    ),
    "helium": Tiny(
        "helium",
        {"attention_bias": True},
        {
            "rotation": rope(rope_type="default", rope_theta=1e9),
            "q, k and v bias": zero_biases("q_proj", "k_proj", "v_proj"),
        },
    ),
    "granite": Tiny(
        "granite",
        SCALES,
        {
            "scale of embeddings": {"embedding_multiplier": 1.0},
            "scale of scores": {"attention_multiplier": 0.25},
            "scale of outputs": {"residual_multiplier": 1.0},
            "scale of logits": {"logits_scaling": 1.0},
        },
        drop=("head_dim",),
    ),
    "granitemoehybrid": Tiny(
        "granitemoehybrid",
        {
            **SCALES,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 96,
            "position_embedding_type": "rope",
            "layer_types": ["full_attention"] * 2,
            "mamba_n_heads": 4,
            "mamba_d_head": 32,
        },
        {"rotation": {"position_embedding_type": "nope"}, "scale of outputs": {"residual_multiplier": 1.0}},
        drop=("head_dim",),
    ),
    "gemma": Tiny(
        "gemma",
        {"head_dim": 32},
        {"activation": {"hidden_act": "silu"}, "rotation": rope(rope_type="default", rope_theta=1e9)},
    ),
    "vaultgemma": Tiny(
        "vaultgemma",
        {
            "sliding_window": 6,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
        },
        {
            "window": {"sliding_window": 200},
            "score cap": {"attn_logit_softcapping": None},
            "logits cap": {"final_logit_softcapping": None},
            "scale": {"query_pre_attn_scalar": 16},
        },
    ),
    "hyperclovax": Tiny(
        "hyperclovax",
        {**SCALES, "logits_scaling": 0.25},
        {
            "scale of outputs": {"residual_multiplier": 1.0},
            "scale of logits": {"logits_scaling": 1.0},
            "norm after attention": without("post_norm1"),
            "norm after feed-forward": without("post_norm2"),
        },
    ),
    "gemma3-wrapper": Tiny(
        "gemma3",
        nested(GEMMA3_TEXT, mm_tokens_per_image=4, tie_word_embeddings=True),
        {
            "window": nested({**GEMMA3_TEXT, "sliding_window": 200}),
            "scale": nested({**GEMMA3_TEXT, "query_pre_attn_scalar": 16}),
        },
        drop=tuple(BASE),
    ),
    "olmo2": Tiny(
        "olmo2",
        {},
        {
            "q norm": without("self_attn.q_norm"),
            "k norm": without("self_attn.k_norm"),
            "norm after attention": without("post_attention_layernorm"),
            "norm after feed-forward": without("post_feedforward_layernorm"),
        },
        drop=("head_dim",),
    ),
    "olmo3": Tiny(
        "olmo3",
        {
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": OLMO3_ROPE,
        },
        {
            "window": {"sliding_window": 200},
            "scaling": {"rope_parameters": {"full_attention": OLMO3_LOCAL, "sliding_attention": OLMO3_LOCAL}},
        },
        drop=("head_dim",),
    ),
    "exaone4": Tiny(
        "exaone4",
        {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
        {
            "window": {"sliding_window": 200},
            "layer without rotation": {"sliding_window": None, "layer_types": ["full_attention"] * 2},
            "q norm": without("self_attn.q_norm"),
            "norm after attention": without("post_attention_layernorm"),
        },
    ),
    "hunyuan": Tiny(
        "hunyuan_v1_dense",
        rope(rope_type="dynamic", factor=1.0, alpha=50.0, rope_theta=100.0),
        {
            "alpha": rope(rope_type="default", rope_theta=100.0),
            "q norm": without("self_attn.query_layernorm"),
            "k norm": without("self_attn.key_layernorm"),
        },
    ),
    "minicpm": Tiny(
        "granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.25,
            "residual_multiplier": 1.4 / 2**0.5,
            "logits_scaling": 4.0,
        },
        {"scale of embeddings": {"embedding_multiplier": 1.0}},
        drop=("head_dim",),
        written={
            "model_type": "minicpm",
            "architectures": ["MiniCPMForCausalLM"],
            "scale_emb": 3,
            "scale_depth": 1.4,
            "dim_model_base": 16,
            "embedding_multiplier": None,
            "attention_multiplier": None,
            "residual_multiplier": None,
            "logits_scaling": None,
        },
    ),
    "phi3-longrope": Tiny(
        "phi3",
        {"original_max_position_embeddings": 64, "partial_rotary_factor": 0.5, "rope_parameters": LONGROPE},
        {
            "factors": {"rope_parameters": {**LONGROPE, "short_factor": [1.0] * 4}},
            "attention factor": {"rope_parameters": {**LONGROPE, "attention_factor": 1.0}},
        },
        drop=("head_dim",),
    ),
    "ministral3": Tiny(
        "ministral3",
        MINISTRAL3_ROPE,
        {
            "growth of queries": NOT_GROWN,
            "scaling": rope(
                rope_type="default", llama_4_scaling_beta=0.7, original_max_position_embeddings=8
            ),
        },
    ),
    "ministral3-wrapper": Tiny(
        "mistral3",
        nested(MINISTRAL3, vision="pixtral", tie_word_embeddings=True),
        {"growth of queries": nested({**MINISTRAL3, **NOT_GROWN}, vision="pixtral")},
        drop=tuple(BASE),
    ),
    "gemma4": Tiny(
        "gemma4_text",
        GEMMA4_TEXT,
        {
            "window": {"sliding_window": 200},
            "logits cap": {"final_logit_softcapping": None},
            "partial rotation": {"rope_parameters": {**GEMMA4_ROPE, "full_attention": GEMMA4_WHOLE}},
            "embeddings for every layer": filled("per_layer_input_gate", 0.0),
            "projection to every layer": filled("per_layer_model_projection", 0.0),
            "factors of blocks": filled("layer_scalar", 1.0),
            "q norm": without("self_attn.q_norm"),
            "norm of values": without_own("self_attn.v_norm"),
            "norm after embeddings": without("post_per_layer_input_norm"),
        },
    ),
    "gemma4-wrapper": Tiny(
        "gemma4",
        {**nested(GEMMA4_NESTED), "vision_config": GEMMA4_VISION, "tie_word_embeddings": True},
        {
            "window": {
                **nested({**GEMMA4_NESTED, "sliding_window": 200}),
                "vision_config": GEMMA4_VISION,
            },
            "embeddings for every layer": filled("per_layer_input_gate", 0.0),
        },
        drop=tuple(BASE),
    ),
    "qwen2-5-vl": Tiny(
        "qwen2_5_vl",
        {**nested(QWEN25_VL), "vision_config": QWEN25_VL_VISION, "tie_word_embeddings": True},
        {
            "bias": zero_biases("q_proj", "k_proj", "v_proj"),
            "rotation": {
                **nested({**QWEN25_VL, "rope_parameters": {**QWEN25_VL_ROPE, "rope_theta": 1e9}}),
                "vision_config": QWEN25_VL_VISION,
            },
        },
        drop=tuple(BASE),
    ),
    "lfm2": Tiny(
        "lfm2",
        {
            **rope(rope_type="default"),
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "conv"],
            "intermediate_size": 144,
            "block_multiple_of": 32,
        },
        {
            "convolutions": filled("conv.conv.weight", 0.0),
            "tokens before": only_last_tap,
            "rotation": rope(rope_type="default", rope_theta=1e9),
            "q norm": without_own("self_attn.q_layernorm"),
            "k norm": without_own("self_attn.k_layernorm"),
        },
        drop=("head_dim", "rms_norm_eps"),
    ),
}


def main() -> None:
    """Writes every checkpoint, or those named on the command line."""
    tokenizer = make_tokenizer()
    for seed, (name, tiny) in enumerate(CHECKPOINTS.items()):
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_checkpoint(name, tiny, seed, folder)
        write_tokenizer(tokenizer, folder)
    write_readme()


def make_checkpoint(name: str, tiny: Tiny, seed: int, folder: Path) -> None:
    """Writes weights, configurations and references of one checkpoint."""
    settings = {**{k: v for k, v in BASE.items() if k not in tiny.drop}, **tiny.config}
    config = AutoConfig.for_model(tiny.model_type, **copy.deepcopy(settings))
    weights = random_weights(config, seed)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(len(SPECIALS), VOCAB, sum(LENGTHS)).astype(np.int32)
    reference = logits_of(config, weights, tokens)
    for feature, change in tiny.off.items():
        if callable(change):
            changed = logits_of(config, weights, tokens, change)
        else:
            other = AutoConfig.for_model(tiny.model_type, **copy.deepcopy({**settings, **change}))
            changed = logits_of(other, weights, tokens)
        report_change(f"{name} without its {feature}", reference, changed)
    model = build(config, weights)
    most = sum(weight.nbytes for weight in weights.values()) // tiny.shards + 1
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=most)
    if tiny.written:
        written = {**json.loads((folder / "config.json").read_text()), **tiny.written}
        kept = {key: value for key, value in written.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    write_reference(folder / "reference.npz", tokens, reference)
    for variant, change in tiny.variants.items():
        other = AutoConfig.for_model(tiny.model_type, **copy.deepcopy({**settings, **change}))
        logits = logits_of(other, weights, tokens)
        report_change(f"{name} {variant} against {name}", logits, reference)
        written = json.loads(other.to_json_string())
        written.update(
            {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k not in written}
        )
        (folder / f"config.{variant}.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
        write_reference(folder / f"reference.{variant}.npz", tokens, logits)


def random_weights(config: PreTrainedConfig, seed: int) -> dict[str, torch.Tensor]:
    """Weights that bfloat16 holds exactly, large enough that logits are far from flat."""
    generator = torch.Generator().manual_seed(seed)
    kind = config.model_type
    gemma = "gemma" in kind and "gemma4" not in kind  # its norms multiply by 1 + weight
    weights = {}
    for name, parameter in new_model(config).state_dict().items():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or name.endswith("layer_scalar"):
            value = noise * 0.3 + (0.0 if gemma else 1.0)
        elif name.endswith("bias"):
            value = noise * 0.5
        else:
            value = noise * 0.2
        weights[name] = value.to(torch.bfloat16)
    return weights


def new_model(config: PreTrainedConfig) -> PreTrainedModel:
    """An empty model; wrappers of several modalities have an auto class of their own."""
    known = type(config) in AutoModelForCausalLM._model_mapping
    return (AutoModelForCausalLM if known else AutoModelForImageTextToText).from_config(config)


def build(config: PreTrainedConfig, weights: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The model in float64 and eager attention."""
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"
    model = new_model(config).double().eval()
    model.load_state_dict({name: value.double() for name, value in weights.items()})
    model.tie_weights()
    return model


def logits_of(
    config: PreTrainedConfig,
    weights: Mapping[str, torch.Tensor],
    tokens: NDArray[np.int32],
    change: Change | None = None,
) -> NDArray[np.float32]:
    """Logits after every token of each sequence, one below the other: (sum of lengths, V)."""
    model = build(config, weights)
    if change is not None:
        change(model)
    rows = []
    with torch.no_grad():
        for sequence in np.split(tokens, np.cumsum(LENGTHS)[:-1]):
            ids = torch.from_numpy(sequence.astype(np.int64))[None]
            rows.append(model(ids, use_cache=False).logits[0].numpy())
    return np.concatenate(rows).astype(np.float32)


def report_change(what: str, a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    """Prints how much two references differ and fails when it is too little to test anything."""
    change = float(np.abs(a - b).max() / np.abs(a).max())
    print(f"{what}: {change:.3f}")
    if not change >= MIN_CHANGE:
        raise SystemExit(f"{what} changes the logits by {change:.1e} only; expected at least {MIN_CHANGE}")


def write_reference(path: Path, tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> None:
    """Token ids, sequence lengths and float32 logits."""
    np.savez_compressed(path, tokens=tokens, lengths=np.array(LENGTHS, np.int32), logits=logits)


def make_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer with as many merges as the vocabulary has room for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([__doc__ or ""], trainer)
    if tokenizer.get_vocab_size() != VOCAB:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, expected {VOCAB}")
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, and tokenizer_config.json with the chat template."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIALS[0],
        "bos_token": SPECIALS[1],
        "eos_token": SPECIALS[2],
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def written_by(name: str) -> str:
    """Version of transformers that wrote a checkpoint."""
    return str(json.loads((OUT / name / "config.json").read_text())["transformers_version"])


def write_readme() -> None:
    """Says what made the files."""
    (OUT / "README.md").write_text(
        "# Tiny random checkpoints\n\n"
        "Made by `tests/data/make_tiny_checkpoints.py` (its docstring says how), last with "
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"tokenizers {tokenizers.__version__}, numpy {np.__version__}.\n\n"
        "| folder | model_type | transformers | features that the script checked to change the logits "
        "| variants |\n"
        "|---|---|---|---|---|\n"
        + "".join(
            f"| {name} | {t.model_type} | {written_by(name)} | {', '.join(t.off)} "
            f"| {', '.join(t.variants) or '-'} |\n"
            for name, t in CHECKPOINTS.items()
            if (OUT / name).is_dir()
        )
    )


if __name__ == "__main__":
    main()
