"""Weight names that llama-like files share, per naming convention; architectures lay their own over them.

Formats: Hugging Face's `modeling_llama.py`; GGUF's standardised tensor names.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk_converters.architectures.architecture import CombineOf, WeightNames, When, always
from edgesdk_converters.architectures.combine import Combine, PairHalves
from edgesdk_converters.checkpoints.checkpoint import Dialect

_HF, _BLOCK = "model.layers.{i}", "blk.{i}"

HUGGINGFACE: Mapping[str, str] = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
    "layers.{i}.attn_norm": f"{_HF}.input_layernorm.weight",
    "layers.{i}.q": f"{_HF}.self_attn.q_proj.weight",
    "layers.{i}.k": f"{_HF}.self_attn.k_proj.weight",
    "layers.{i}.v": f"{_HF}.self_attn.v_proj.weight",
    "layers.{i}.o": f"{_HF}.self_attn.o_proj.weight",
    "layers.{i}.q_norm": f"{_HF}.self_attn.q_norm.weight",
    "layers.{i}.k_norm": f"{_HF}.self_attn.k_norm.weight",
    "layers.{i}.mlp_norm": f"{_HF}.post_attention_layernorm.weight",
    "layers.{i}.gate": f"{_HF}.mlp.gate_proj.weight",
    "layers.{i}.up": f"{_HF}.mlp.up_proj.weight",
    "layers.{i}.down": f"{_HF}.mlp.down_proj.weight",
    "layers.{i}.q.bias": f"{_HF}.self_attn.q_proj.bias",
    "layers.{i}.k.bias": f"{_HF}.self_attn.k_proj.bias",
    "layers.{i}.v.bias": f"{_HF}.self_attn.v_proj.bias",
    "layers.{i}.o.bias": f"{_HF}.self_attn.o_proj.bias",
    "layers.{i}.gate.bias": f"{_HF}.mlp.gate_proj.bias",
    "layers.{i}.up.bias": f"{_HF}.mlp.up_proj.bias",
    "layers.{i}.down.bias": f"{_HF}.mlp.down_proj.bias",
}

GGUF: Mapping[str, str] = {
    "embed": "token_embd.weight",
    "final_norm": "output_norm.weight",
    "head": "output.weight",
    "layers.{i}.attn_norm": f"{_BLOCK}.attn_norm.weight",
    "layers.{i}.q": f"{_BLOCK}.attn_q.weight",
    "layers.{i}.k": f"{_BLOCK}.attn_k.weight",
    "layers.{i}.v": f"{_BLOCK}.attn_v.weight",
    "layers.{i}.o": f"{_BLOCK}.attn_output.weight",
    "layers.{i}.q_norm": f"{_BLOCK}.attn_q_norm.weight",
    "layers.{i}.k_norm": f"{_BLOCK}.attn_k_norm.weight",
    "layers.{i}.attn_post_norm": f"{_BLOCK}.post_attention_norm.weight",
    "layers.{i}.mlp_norm": f"{_BLOCK}.ffn_norm.weight",
    "layers.{i}.mlp_post_norm": f"{_BLOCK}.post_ffw_norm.weight",
    "layers.{i}.gate": f"{_BLOCK}.ffn_gate.weight",
    "layers.{i}.up": f"{_BLOCK}.ffn_up.weight",
    "layers.{i}.down": f"{_BLOCK}.ffn_down.weight",
    "layers.{i}.q.bias": f"{_BLOCK}.attn_q.bias",
    "layers.{i}.k.bias": f"{_BLOCK}.attn_k.bias",
    "layers.{i}.v.bias": f"{_BLOCK}.attn_v.bias",
    "layers.{i}.o.bias": f"{_BLOCK}.attn_output.bias",
    "layers.{i}.gate.bias": f"{_BLOCK}.ffn_gate.bias",
    "layers.{i}.up.bias": f"{_BLOCK}.ffn_up.bias",
    "layers.{i}.down.bias": f"{_BLOCK}.ffn_down.bias",
}

POST_NORMS: Mapping[str, str] = {
    "layers.{i}.attn_post_norm": f"{_HF}.post_attention_layernorm.weight",
    "layers.{i}.mlp_norm": f"{_HF}.pre_feedforward_layernorm.weight",
    "layers.{i}.mlp_post_norm": f"{_HF}.post_feedforward_layernorm.weight",
}
"""Hugging Face's names where outputs have norms too, which moves those of others."""


def _llama3_scaled(spec: DecoderSpec) -> bool:
    # The tensor repeats in numbers what the configuration says; with any other kind it would be news.
    return any(layer.rotary is not None and layer.rotary.kind == "llama3" for layer in spec.layers)


def _longrope_scaled(spec: DecoderSpec) -> bool:
    return any(layer.rotary is not None and layer.rotary.kind == "longrope" for layer in spec.layers)


# Old files stored the rotary frequencies, which follow from the configuration.
HUGGINGFACE_UNUSED = {"model.layers.*.self_attn.rotary_emb.inv_freq": always}
GGUF_UNUSED = {
    "rope_freqs.weight": _llama3_scaled,
    "rope_factors_*.weight": _longrope_scaled,
    "blk.*.attn_rot_embd.weight": always,
}

PAIR_HALVES: Mapping[str, CombineOf] = {
    "layers.{i}.q": lambda block: PairHalves(block.attention.heads),
    "layers.{i}.k": lambda block: PairHalves(block.attention.kv_heads),
    "layers.{i}.q.bias": lambda block: PairHalves(block.attention.heads),
    "layers.{i}.k.bias": lambda block: PairHalves(block.attention.kv_heads),
}
"""GGUF's row order of q and k for the architectures that llama.cpp rotates in neighbour pairs."""


def llama_names(
    *,
    gguf_pairs: bool | None,
    huggingface: Mapping[str, str] | None = None,
    gguf: Mapping[str, str] | None = None,
    huggingface_combine: Mapping[str, Combine | CombineOf] | None = None,
    gguf_combine: Mapping[str, Combine | CombineOf] | None = None,
    huggingface_unused: Mapping[str, When] | None = None,
    gguf_unused: Mapping[str, When] | None = None,
) -> Mapping[Dialect, WeightNames]:
    """Names of a llama-like architecture.

    Args:
        gguf_pairs: GGUF files of it hold q and k in neighbour-paired order; None where there are none.
        huggingface: names that differ from llama's.
        gguf: the same for GGUF.
        huggingface_combine: combines other than a copy.
        gguf_combine: the same for GGUF, besides the pairing.
        huggingface_unused: tensors that are knowingly not read, besides llama's.
        gguf_unused: the same for GGUF.
    """
    names: dict[Dialect, WeightNames] = {
        "huggingface": WeightNames(
            {**HUGGINGFACE, **(huggingface or {})},
            huggingface_combine or {},
            {**HUGGINGFACE_UNUSED, **(huggingface_unused or {})},
        )
    }
    if gguf_pairs is not None:
        combine = {**(PAIR_HALVES if gguf_pairs else {}), **(gguf_combine or {})}
        names["gguf"] = WeightNames({**GGUF, **(gguf or {})}, combine, {**GGUF_UNUSED, **(gguf_unused or {})})
    return names
