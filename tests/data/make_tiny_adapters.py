"""Makes the tiny random adapters and reference logits in tests/data/adapters.

Needs torch, transformers and peft, which nothing else in the project does; run it by hand, with the versions
that tests/data/adapters/README.md names:

    python tests/data/make_tiny_adapters.py

Each is a directory as PEFT saves it, for a checkpoint of tests/data/tiny, with `reference.npz`: logits of
PEFT's own forward, not merged, in float64 and eager attention. The script fails where a part of an adapter
does not change the logits by MIN_CHANGE of their largest magnitude.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
OUT = HERE / "adapters"
MIN_CHANGE = 1e-2
LENGTHS = (36, 20)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class TinyAdapter:
    """One adapter: of which checkpoint, and what PEFT is told."""

    base: str
    config: Mapping[str, object]


ADAPTERS = {
    "llama-patterns": TinyAdapter(
        "llama",
        {
            "target_modules": ALL,
            "rank_pattern": {"q_proj": 6, "layers.1.mlp.up_proj": 2},
            "alpha_pattern": {"v_proj": 20, "layers.0.self_attn.k_proj": 3},
        },
    ),
    "rslora-bias": TinyAdapter(
        "llama-untied-bias",
        {
            "target_modules": [*ALL, "embed_tokens"],
            "use_rslora": True,
            "bias": "lora_only",
            "modules_to_save": ["lm_head"],
        },
    ),
    "lora-bias": TinyAdapter(
        "llama-untied-bias", {"target_modules": ["q_proj", "down_proj"], "lora_bias": True}
    ),
    "head": TinyAdapter("iquestcoder", {"target_modules": ["q_proj", "lm_head"]}),
    "phi3-fused": TinyAdapter(
        "phi3", {"target_modules": ["qkv_proj", "o_proj", "gate_up_proj"], "layers_to_transform": [1]}
    ),
    "gemma-norms": TinyAdapter(
        "gemma", {"target_modules": ["q_proj", "down_proj"], "modules_to_save": ["input_layernorm", "norm"]}
    ),
    "qwen3-dora": TinyAdapter("qwen3", {"target_modules": ALL, "use_dora": True}),
    "tied-table": TinyAdapter("qwen3", {"target_modules": ["v_proj", "embed_tokens"]}),
    "tied-both": TinyAdapter(
        "llama",
        {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "tied-apart": TinyAdapter(
        "llama", {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    ),
    "features": TinyAdapter(
        "mistral", {"target_modules": ["q_proj", "v_proj"], "task_type": "FEATURE_EXTRACTION"}
    ),
}


def main() -> None:
    """Writes every adapter, or those named on the command line."""
    for seed, (name, tiny) in enumerate(ADAPTERS.items()):
        if len(sys.argv) < 2 or name in sys.argv[1:]:
            make_adapter(name, tiny, seed)
    (OUT / "README.md").write_text(
        "# Tiny random adapters\n\nMade by `tests/data/make_tiny_adapters.py` with "
        f"peft {peft.__version__}, torch {torch.__version__}, transformers {transformers.__version__}.\n"
    )


def make_adapter(name: str, tiny: TinyAdapter, seed: int) -> None:
    """Writes one adapter with its reference."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    base = AutoModelForCausalLM.from_pretrained(
        HERE / "tiny" / tiny.base, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    settings = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **tiny.config}
    features = settings["task_type"] == "FEATURE_EXTRACTION"
    inner = base.model if features else base
    model = get_peft_model(inner, LoraConfig(**settings)).eval()
    tokens = np.random.default_rng(100 + seed).integers(3, 288, sum(LENGTHS)).astype(np.int32)
    head = base.lm_head if features else None
    plain = logits_of(model, tokens, head, off=True)
    randomise(model, seed)
    groups = sorted({kind(key) for key, value in model.named_parameters() if value.requires_grad})
    adapted = logits_of(model, tokens, head)
    print(f"{name}: {change(adapted, plain):.3f} ({', '.join(groups)})")
    for group in groups:
        kept = {
            k: v.data.clone() for k, v in model.named_parameters() if v.requires_grad and kind(k) == group
        }
        for key, value in model.named_parameters():
            if key in kept:
                value.data.mul_(0.5)
        changed = change(logits_of(model, tokens, head), adapted)
        if not changed >= MIN_CHANGE:
            raise SystemExit(f"{name}: {group} changes the logits by {changed:.1e} only")
        for key, value in model.named_parameters():
            if key in kept:
                value.data.copy_(kept[key])
    model.to(torch.float32).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text()), "base_model_name_or_path": tiny.base}
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[key] = sorted(value)  # a set, which PEFT writes in any order
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    reference = logits_of(model.to(torch.float64), tokens, head)
    np.savez_compressed(
        folder / "reference.npz", tokens=tokens, lengths=np.array(LENGTHS, np.int32), logits=reference
    )


def kind(key: str) -> str:
    """What a parameter is: the part of a low-rank change, or the module that is trained as a whole."""
    if "lora_" in key:
        return "lora_" + key.split("lora_")[1].replace(".default", "")
    return ".".join(part for part in key.split(".")[-5:] if not part.isdigit())


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Gives what is trained numbers that float32 holds exactly, so large that logits change well."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.named_parameters():
        if not value.requires_grad:
            continue
        noise = torch.randn(value.shape, generator=generator)
        if "magnitude" in key:
            value.data.mul_(1 + 0.3 * noise)
        elif "lora_" in key:
            value.data.copy_(noise * 0.15)
        else:
            value.data.add_(noise * 0.1)
        value.data.copy_(value.data.float())


def change(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, of the largest magnitude."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def logits_of(model, tokens: np.ndarray, head: torch.nn.Module | None, *, off: bool = False) -> np.ndarray:
    """Logits after every token of each sequence, one below the other: (sum of lengths, V)."""
    rows = []
    with torch.no_grad():
        for sequence in np.split(tokens, np.cumsum(LENGTHS)[:-1]):
            ids = torch.from_numpy(sequence.astype(np.int64))[None]
            if off:
                with model.disable_adapter():
                    out = model(ids, use_cache=False)
            else:
                out = model(ids, use_cache=False)
            rows.append((out.logits if head is None else head(out.last_hidden_state))[0].numpy())
    return np.concatenate(rows).astype(np.float32)


if __name__ == "__main__":
    main()
