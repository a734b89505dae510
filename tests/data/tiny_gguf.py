"""GGUF files as llama.cpp's converter writes them, made of tiny checkpoints and of anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize

TINY = Path(__file__).parent / "tiny"
KINDS = gguf.GGMLQuantizationType

# model_type -> architecture in the gguf package, whether q and k are permuted, what norms have added
ARCHITECTURES = {
    "llama": (gguf.MODEL_ARCH.LLAMA, True, 0.0),
    "mistral": (gguf.MODEL_ARCH.LLAMA, True, 0.0),
    "smollm3": (gguf.MODEL_ARCH.SMOLLM3, True, 0.0),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, False, 0.0),
    "qwen3": (gguf.MODEL_ARCH.QWEN3, False, 0.0),
    "gemma2": (gguf.MODEL_ARCH.GEMMA2, False, 1.0),
    "gemma3_text": (gguf.MODEL_ARCH.GEMMA3, False, 1.0),
    "phi3": (gguf.MODEL_ARCH.PHI3, False, 0.0),
    "internlm3": (gguf.MODEL_ARCH.LLAMA, True, 0.0),
    "iquestcoder": (gguf.MODEL_ARCH.LLAMA, True, 0.0),
    "seed_oss": (gguf.MODEL_ARCH.SEED_OSS, False, 0.0),
    "ernie4_5": (gguf.MODEL_ARCH.ERNIE4_5, False, 0.0),
    "granite": (gguf.MODEL_ARCH.GRANITE, True, 0.0),
    "gemma": (gguf.MODEL_ARCH.GEMMA, False, 1.0),
    "olmo2": (gguf.MODEL_ARCH.OLMO2, False, 0.0),
    "olmo3": (gguf.MODEL_ARCH.OLMO2, False, 0.0),
    "exaone4": (gguf.MODEL_ARCH.EXAONE4, False, 0.0),
    "hunyuan_v1_dense": (gguf.MODEL_ARCH.HUNYUAN_DENSE, False, 0.0),
    "minicpm": (gguf.MODEL_ARCH.MINICPM, True, 0.0),
    "ministral3": (gguf.MODEL_ARCH.MISTRAL3, True, 0.0),
    "lfm2": (gguf.MODEL_ARCH.LFM2, False, 0.0),
    "gemma4_text": (gguf.MODEL_ARCH.GEMMA4, False, 0.0),
}
"""llama.cpp knows no cwm, helium, vaultgemma, hyperclovax; a dense granitemoehybrid it writes as granite."""

Tensor = tuple[NDArray[np.generic], gguf.GGMLQuantizationType]


def write_gguf(
    path: Path,
    tensors: Mapping[str, Tensor],
    fill: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    architecture: str = "llama",
    tensors_per_part: int = 0,
) -> Path:
    """`tensors_per_part` splits it; the path is that of the first part then."""
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_per_part)
    fill(writer)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    parts = [Path(file.name) for file in writer.fout]
    writer.close()
    return parts[0]


def permute(rows: NDArray[np.generic], heads: int) -> NDArray[np.generic]:
    """llama.cpp's row order for neighbour-paired rotation, from Hugging Face's."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def to_gguf(config, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Renames with the gguf package's own table, permutes and shifts as llama.cpp's converter does."""
    architecture, permuted, one = ARCHITECTURES[config["model_type"]]
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    renamed = {}
    for name, values in arrays.items():
        if permuted and re.search(r"\.q_proj\.(weight|bias)$", name):
            values = permute(values, config["num_attention_heads"])
        elif permuted and re.search(r"\.k_proj\.(weight|bias)$", name):
            values = permute(values, config["num_key_value_heads"])
        elif name.endswith("conv.conv.weight"):
            values = values.squeeze(1)
        elif name.endswith("norm.weight"):
            values = values + np.float32(one)
        if name.endswith("layer_scalar"):
            name += ".weight"
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert new is not None, name
        renamed[new] = values
    return renamed


def _tensors(folder: Path, config) -> dict[str, Tensor]:
    arrays = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in deserialize(file.read_bytes()):
            bits = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
            arrays[name] = bits.view(np.float32).reshape(tensor["shape"])
    return {name: (values, KINDS.F32) for name, values in to_gguf(config, arrays).items()}


def _add_gemma4(writer, config) -> None:
    """Sizes of layers with a window; `write_tiny_gguf` gives those of the others."""
    rope, head = config["rope_parameters"]["sliding_attention"], config["head_dim"]
    writer.add_key_length_swa(head)
    writer.add_value_length_swa(head)
    writer.add_rope_dimension_count_swa(head)
    writer.add_rope_freq_base_swa(rope["rope_theta"])
    writer.add_shared_kv_layers(config["num_kv_shared_layers"])
    writer.add_embedding_length_per_layer_input(config["hidden_size_per_layer_input"])


def _ffn_size(config) -> int | list[int]:
    """As llama.cpp's converter computes it for lfm2, and lists it for gemma4."""
    size = config["intermediate_size"]
    if config.get("use_double_wide_mlp"):
        shared = config["num_kv_shared_layers"]
        return [size] * (config["num_hidden_layers"] - shared) + [2 * size] * shared
    if not config.get("block_auto_adjust_ff_dim"):
        return size
    size, multiple = int(config["block_ffn_dim_multiplier"] * int(2 * size / 3)), config["block_multiple_of"]
    return multiple * ((size + multiple - 1) // multiple)


def _llama3_factors(rope, head: int) -> NDArray[np.float32]:
    """Band by band, as llama.cpp's converter computes them."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    original, factors = rope["original_max_position_embeddings"], []
    for wavelength in 2 * np.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head):
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(rope["factor"])
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _add_rope(writer, rope) -> None:
    alpha, size = rope.get("alpha", 1.0), rope.get("size", 0)
    writer.add_rope_freq_base(rope["rope_theta"] * (alpha ** (size / (size - 2)) if alpha != 1 else 1))
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(rope[key])


def add_tokenizer(writer, folder: Path) -> None:
    """The tokenizer of a tiny checkpoint."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = sorted(document["model"]["vocab"].items(), key=lambda pair: pair[1])
    special = {token["content"] for token in document["added_tokens"]}
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text for text, _ in vocabulary])
    writer.add_token_types([control if text in special else normal for text, _ in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in document["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)


def write_tiny_gguf(
    out: Path,
    name: str,
    config_name: str = "config.json",
    more: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    kind_of: Callable[[str], gguf.GGMLQuantizationType] = lambda name: KINDS.F32,
    tensors_per_part: int = 0,
) -> Path:
    """A tiny checkpoint, as far as GGUF can say what it is; `kind_of` chooses the type of matrices."""
    folder = TINY / name
    config = json.loads((folder / config_name).read_text(encoding="utf-8"))
    kind = config["model_type"]
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    head = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    if kind == "gemma4_text":  # of layers that see everything
        head = next(iter(config["per_layer_config"].values()))["head_dim"]
    rope = {**rope, "size": head}
    tensors = _tensors(folder, config)
    for tensor, (values, _) in tensors.items():
        if values.ndim == 2 and kind_of(tensor) != KINDS.F32:
            quantised = gguf.quants.quantize(values.astype(np.float32), kind_of(tensor))
            tensors[tensor] = quantised, kind_of(tensor)
    if rope["rope_type"] == "llama3":
        tensors["rope_freqs.weight"] = _llama3_factors(rope, head), KINDS.F32
    if rope["rope_type"] == "longrope":
        for side in ("long", "short"):
            factors = np.array(rope[f"{side}_factor"], np.float32)
            tensors[f"rope_factors_{side}.weight"] = factors, KINDS.F32

    if rope["rope_type"] == "proportional":
        turning = int(head * rope["partial_rotary_factor"] / 2)
        factors = np.array([1.0] * turning + [1e30] * (head // 2 - turning), np.float32)
        tensors["rope_freqs.weight"] = factors, KINDS.F32

    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_name("Tiny")
        writer.add_license("apache-2.0")
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(_ffn_size(config))
        writer.add_head_count(config["num_attention_heads"])
        kv_heads = config["num_key_value_heads"]
        if kind == "lfm2":
            kv_heads = [0 if t == "conv" else kv_heads for t in config["layer_types"]]
            writer.add_shortconv_l_cache(config["conv_L_cache"])
        writer.add_head_count_kv(kv_heads)
        writer.add_layer_norm_rms_eps(config.get("rms_norm_eps") or config["norm_eps"])
        writer.add_rope_dimension_count(int(head * config.get("partial_rotary_factor", 1.0)))
        if kind == "gemma4_text":
            _add_gemma4(writer, config)
        writer.add_vocab_size(config["vocab_size"])
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        if "head_dim" in config:
            writer.add_key_length(head)
            writer.add_value_length(head)
        if kind in ("gemma2", "gemma3_text", "gemma4_text", "phi3", "olmo3", "exaone4"):
            writer.add_sliding_window(config["sliding_window"] or 0)
        if kind == "gemma2":
            writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        if kind in ("gemma2", "gemma3_text", "gemma4_text"):
            writer.add_final_logit_softcapping(config["final_logit_softcapping"])
        if kind in ("gemma3_text", "gemma4_text", "olmo3", "exaone4"):
            writer.add_sliding_window_pattern([t == "sliding_attention" for t in config["layer_types"]])
        if kind == "granite":
            writer.add_attention_scale(config["attention_multiplier"])
            writer.add_embedding_scale(config["embedding_multiplier"])
            writer.add_residual_scale(config["residual_multiplier"])
            writer.add_logit_scale(config["logits_scaling"])
        if kind == "minicpm":
            writer.add_embedding_scale(config["scale_emb"])
            writer.add_residual_scale(config["scale_depth"] / config["num_hidden_layers"] ** 0.5)
            writer.add_logit_scale(config["hidden_size"] / config["dim_model_base"])
        if kind == "ministral3":
            writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
            writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
        if rope["rope_type"] == "longrope":
            scale = config["max_position_embeddings"] / config["original_max_position_embeddings"]
            grown = np.log(scale) / np.log(config["original_max_position_embeddings"])
            writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + grown)))
        if kind == "phi3":
            writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
        _add_rope(writer, rope)
        add_tokenizer(writer, folder)
        more(writer)

    architecture = gguf.MODEL_ARCH_NAMES[ARCHITECTURES[kind][0]]
    return write_gguf(out, tensors, fill, architecture, tensors_per_part)
