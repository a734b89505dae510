"""The tiny adapters of tests/data/adapters, and any other, written as PEFT and llama.cpp write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ADAPTERS = Path(__file__).parents[2] / "data" / "adapters"
TINY = ADAPTERS.parent / "tiny"
NAMES = sorted(path.parent.name for path in ADAPTERS.glob("*/reference.npz"))


def base_of(name: str) -> str:
    """The folder of the checkpoint that a tiny adapter is for."""
    config = json.loads((ADAPTERS / name / "adapter_config.json").read_text(encoding="utf-8"))
    return str(TINY / config["base_model_name_or_path"])


def reference(name: str):
    """Sequences and PEFT's logits of each."""
    with np.load(ADAPTERS / name / "reference.npz") as file:
        cuts = np.cumsum(file["lengths"])[:-1]
        return np.split(file["tokens"], cuts), np.split(file["logits"], cuts)


def random_tensors(modules, rank=4, seed=0):
    """A and B of modules: name -> (out, in)."""
    random = np.random.default_rng(seed)
    tensors = {}
    for module, (out, into) in modules.items():
        for side, shape in (("A", (rank, into)), ("B", (out, rank))):
            name = f"base_model.model.{module}.lora_{side}.weight"
            tensors[name] = (random.standard_normal(shape) * 0.15).astype(np.float32)
    return tensors


ATTENTION = {
    f"model.layers.{i}.self_attn.{part}_proj": shape
    for i in range(2)
    for part, shape in (("q", (64, 64)), ("v", (32, 64)))
}
"""Of the tiny llama."""


@pytest.fixture
def write_adapter(tmp_path):
    """Writes the directory of an adapter for the tiny llama, with other tensors or settings."""

    def write(tensors=None, name="adapter", **config):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        settings = {
            "peft_type": "LORA",
            "r": 4,
            "lora_alpha": 6,
            "target_modules": ["q_proj", "v_proj"],
            **config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        save_file(
            random_tensors(ATTENTION) if tensors is None else tensors, folder / "adapter_model.safetensors"
        )
        return folder

    return write
