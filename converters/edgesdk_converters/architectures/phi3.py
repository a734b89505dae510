"""Phi-3 and Phi-4 mini: llama with fused projections.

The long-context releases use `longrope`, whose frequencies are others beyond the context that the model was
trained with first, for all tokens of a sequence. They are read up to that context, where they are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgesdk.bundle.decoder_block import Block
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.errors import CheckpointError
from edgesdk_converters.architectures.architecture import Architecture, CombineOf
from edgesdk_converters.architectures.combine import SliceRows
from edgesdk_converters.architectures.config_reader import ConfigReader
from edgesdk_converters.architectures.decoder_config import make_layers, read_common
from edgesdk_converters.architectures.names import llama_names
from edgesdk_converters.architectures.rotary_config import read_rotary


def read_phi3(config: ConfigReader) -> DecoderSpec:
    """Some channels may stay unrotated; one window for all layers or none."""
    config.expect("attention_bias", False)
    plain = read_common(config, "phi3")
    L = len(plain.layers)
    original = config.optional_integer("original_max_position_embeddings")
    rotary = read_rotary(config, plain, partial=True, original=original)
    if rotary.kind not in ("default", "longrope"):
        raise CheckpointError(f"the rotary type of phi3 is {rotary.kind!r}, expected 'default' or 'longrope'")
    window = config.integer("sliding_window", 0, minimum=0) or None  # GGUF files write 0 for none
    return replace(plain, layers=make_layers([window] * L, [rotary] * L)).spec()


def _part_of_qkv(part: int) -> CombineOf:
    def combine(block: Block) -> SliceRows:
        mixer = block.attention
        sizes = [count * mixer.head_size for count in (mixer.heads, mixer.kv_heads, mixer.kv_heads)]
        return SliceRows(sum(sizes[:part]), sum(sizes))

    return combine


_COMBINE: Mapping[str, CombineOf] = {
    **{f"layers.{{i}}.{name}": _part_of_qkv(part) for part, name in enumerate("qkv")},
    "layers.{i}.gate": lambda block: SliceRows(0, 2 * block.ffn.size),
    "layers.{i}.up": lambda block: SliceRows(block.ffn.size, 2 * block.ffn.size),
}


def _fused(qkv: str, gate_up: str) -> dict[str, str]:
    sources = {"q": qkv, "k": qkv, "v": qkv, "gate": gate_up, "up": gate_up}
    return {f"layers.{{i}}.{name}": source for name, source in sources.items()}


PHI3 = Architecture(
    "phi3",
    ("phi3",),
    read_phi3,
    llama_names(
        gguf_pairs=False,
        huggingface=_fused(
            "model.layers.{i}.self_attn.qkv_proj.weight", "model.layers.{i}.mlp.gate_up_proj.weight"
        ),
        gguf=_fused("blk.{i}.attn_qkv.weight", "blk.{i}.ffn_up.weight"),
        huggingface_combine=_COMBINE,
        gguf_combine=_COMBINE,
    ),
    # Dropouts act in training only; auto_map names the release's own copy of transformers' code.
    irrelevant=frozenset({"embd_pdrop", "resid_pdrop", "auto_map"}),
)
