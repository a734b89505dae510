"""GlassLM 0.1.0 (MIT, package `glassllm`) as a Hugging Face folder: Llama in all but its files.

Two small trained models, English and Portuguese: four layers of 128, 1,024 words, a feed-forward of 341,
which no block size and no vector width divides.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgesdk_converters.architectures.combine import PairHalves
from edgesdk_converters.checkpoints.named_models import NamedModel

_WHEEL = "1611801c031d0fc300dc89d3c07cd6be56dc1784e38e24422b2242d0761a333b"
_SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
_PARTS = {
    "norm1.gamma": "input_layernorm", "norm2.gamma": "post_attention_layernorm",
    "attn.W_Q": "self_attn.q_proj", "attn.W_K": "self_attn.k_proj", "attn.W_V": "self_attn.v_proj",
    "attn.W_O": "self_attn.o_proj", "ffn.W1": "mlp.gate_proj", "ffn.W3": "mlp.up_proj",
    "ffn.W2": "mlp.down_proj",
}  # fmt: skip


FILES = {
    name: NamedModel("GlassLM", "glassllm", "0.1.0", _WHEEL, f"glassllm/weights/{name}", sha256, size)
    for name, sha256, size in (
        ("en.npz", "261ae219ab98caa1f3641e23deb3d9d91b7b7a276f991cbd494f67cfa5abce4d", 1582752),
        ("en.tokenizer.json", "4cf0830157c45cf7f8c70a8fdcb8378c33330b9ba0c9a312e772d7d6485ca4df", 14371),
        ("pt.npz", "597120c1ccf0ba55af6f5aac949be7dbdfbbe7a5f1fc9214473d07f07c580ca2", 1582919),
        ("pt.tokenizer.json", "6e1bc69437adfcbd391d5ffe17d8c75d9931ec2af866992f371d50d272308618", 13919),
    )
}  # fmt: skip


def write_glassllm(weights: Path, tokenizer: Path, folder: Path) -> Path:
    """Rewrites one language's weights and tokenizer."""
    folder.mkdir(parents=True)
    with np.load(weights) as stored:
        own = json.loads(str(stored["__config__"]))
        tensors = {"model.embed_tokens.weight": stored["E"], "model.norm.weight": stored["norm_f.gamma"]}
        heads = {"attn.W_Q": own["n_heads"], "attn.W_K": own["n_kv_heads"]}
        for layer in range(own["n_layers"]):
            for part, name in _PARTS.items():
                values = stored[f"blocks.{layer}.{part}"].T  # its products are x @ W
                if part in heads:  # it rotates neighbours
                    values = values[PairHalves(heads[part]).source_rows(len(values))]
                tensors[f"model.layers.{layer}.{name}.weight"] = values
    save_file({name: np.ascontiguousarray(v) for name, v in tensors.items()}, folder / "model.safetensors")
    config = {
        "model_type": "llama", "hidden_act": "silu", "tie_word_embeddings": True, "eos_token_id": 3,
        "bos_token_id": 2, "vocab_size": own["vocab_size"], "hidden_size": own["d_model"],
        "intermediate_size": tensors["model.layers.0.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": own["n_layers"], "num_attention_heads": own["n_heads"],
        "num_key_value_heads": own["n_kv_heads"], "max_position_embeddings": own["max_len"],
        "rope_theta": own["rope_base"], "rms_norm_eps": own["eps"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _tokenizer(json.loads(tokenizer.read_text(encoding="utf-8"))).save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def _tokenizer(own: dict[str, list]) -> Tokenizer:
    merges = [(a, b) for a, b in own["merges"]]
    words = [*_SPECIALS, *own["alphabet"], *(a + b for a, b in merges)]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁*[^▁\n]+|▁+"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.add_special_tokens(list(_SPECIALS))
    return tokenizer
