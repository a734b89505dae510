"""Writes an adapter as PEFT saves it, for whatever reads such folders: ours, PEFT and others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import CheckpointError
from edgesdk_converters.adapters.peft_adapter import WEIGHTS
from edgesdk_converters.architectures.registry import find_architecture
from edgesdk_converters.checkpoints.refuse_derived import ADAPTER

_PREFIX = "base_model.model."
Float = NDArray[np.float32]


@dataclass(frozen=True)
class TrainedAdapter:
    """What was trained, by canonical weights.

    Attributes:
        rank: r.
        alpha: B A is multiplied by alpha / r.
        low_rank: weight -> A (r, in) and B (out, r).
        tables: embedding table and head, whole.
        tied: the head is the embedding table.
    """

    rank: int
    alpha: float
    low_rank: Mapping[str, tuple[Float, Float]]
    tables: Mapping[str, Float]
    tied: bool


def peft_modules(architecture: str, weights: list[str]) -> dict[str, str]:
    """PEFT's name of the module of each weight.

    Raises:
        CheckpointError: Hugging Face's files hold one as a part of another tensor, or in another order.
    """
    names = find_architecture(architecture).names["huggingface"]
    found = {}
    for name in weights:
        parts = name.split(".")
        layer = parts[1] if parts[0] == "layers" else ""
        key = ".".join(["layers", "{i}", *parts[2:]]) if layer else name
        if key in names.combine or key not in names.tensors:
            raise CheckpointError(
                f"Hugging Face's files of {architecture} hold {name!r} in another form; no adapter is "
                "trained for it here"
            )
        found[name] = names.tensors[key].replace("{i}", layer).removesuffix(".weight")
    return found


def write_peft(folder: Path, adapter: TrainedAdapter, architecture: str, base: str) -> None:
    """Writes adapter_model.safetensors and adapter_config.json into a folder that is there.

    Args:
        folder: of the adapter.
        adapter: what was trained.
        architecture: of its model.
        base: name of its model.

    Raises:
        CheckpointError: as `peft_modules`.
        OSError: a file cannot be written; what stood there stands there still.
    """
    from safetensors.numpy import save_file

    modules = peft_modules(architecture, [*adapter.low_rank, *adapter.tables])
    tensors = {}
    for name, (a, b) in adapter.low_rank.items():
        tensors[f"{_PREFIX}{modules[name]}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{_PREFIX}{modules[name]}.lora_B.weight"] = np.ascontiguousarray(b)
    for name, table in adapter.tables.items():
        tensors[f"{_PREFIX}{modules[name]}.weight"] = np.ascontiguousarray(table)
    config: dict[str, JsonValue] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [*sorted({modules[name].rpartition(".")[2] for name in adapter.low_rank})],
        "layers_to_transform": [*sorted({int(name.split(".")[1]) for name in adapter.low_rank})],
        "inference_mode": True,
    }
    if adapter.tables:
        config["modules_to_save"] = [modules[name].rpartition(".")[2] for name in adapter.tables]
        config["ensure_weight_tying"] = adapter.tied
    write_file(folder / WEIGHTS, lambda path: save_file(tensors, path))
    write_file(folder / ADAPTER, json.dumps(config, indent=2) + "\n")
