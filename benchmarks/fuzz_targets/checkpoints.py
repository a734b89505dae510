"""Checkpoints from strangers: GGUF, safetensors, and the JSON files beside them."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path

import numpy as np

from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from fuzz_targets.damage import TINY, damaged, odd_json, scratch

ARCHITECTURES = ("llama", "gemma3", "phi3", "qwen2", "smollm3")


def _replace(name: str, data: bytes) -> Path:
    """Another file of that name: the one before may still be mapped."""
    path = scratch() / name
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


@cache
def _gguf() -> bytes:
    import gguf

    path = scratch() / "whole.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_token_list(["<s>", "</s>", "a", "b"])
    writer.add_token_scores([0.0, 0.5, 1.0, 2.0])
    writer.add_bool("general.flag", True)
    weight = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("w", gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.add_tensor("v", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def gguf_file(draw: random.Random) -> None:
    """A damaged GGUF file, every tensor read."""
    path = _replace("m.gguf", damaged(draw, _gguf()))
    tensors = GgufTensors(path, read_gguf_header(path).tensors)
    with np.errstate(all="ignore"):
        for name in tensors:
            assert tensors.load(name).shape == tensors.shape(name)


@cache
def _safetensors() -> bytes:
    from safetensors.numpy import save

    return save(
        {"a": np.ones((2, 3), np.float32), "b": np.ones((4,), np.float16), "c": np.ones((1, 2), np.int8)}
    )


def safetensors_file(draw: random.Random) -> None:
    """A damaged safetensors file, every tensor read."""
    tensors = SafetensorsTensors([_replace("m.safetensors", damaged(draw, _safetensors()))])
    with np.errstate(all="ignore"):
        for name in tensors:
            assert tensors.load(name).shape == tensors.shape(name)


@cache
def _config(name: str) -> dict[str, object]:
    return json.loads((TINY / name / "config.json").read_text(encoding="utf-8"))


def config_json(draw: random.Random) -> None:
    """config.json with odd values: a decoder's shape, or refused."""
    config = odd_json(draw, _config(draw.choice(ARCHITECTURES)))
    if isinstance(config, dict):
        spec = read_spec(config)
        assert min(spec.vocab_size, spec.hidden_size, spec.cell_bytes) > 0


@cache
def _folder(name: str) -> Path:
    folder = scratch() / f"checkpoint-{name}"
    shutil.copytree(TINY / name, folder, ignore=shutil.ignore_patterns("reference*", "config.*.json"))
    return folder


_BESIDE = ("config.json", "generation_config.json", "tokenizer_config.json")


def checkpoint_folder(draw: random.Random) -> None:
    """A folder with one of its small files damaged, opened as `convert` opens it."""
    folder = _folder(draw.choice(ARCHITECTURES))
    path = folder / draw.choice(_BESIDE)
    whole = path.read_bytes()
    try:
        if draw.random() < 0.5:
            path.write_bytes(damaged(draw, whole))
        else:
            path.write_text(json.dumps(odd_json(draw, json.loads(whole))), encoding="utf-8")
        checkpoint = open_checkpoint(str(folder))
        spec = read_spec(checkpoint.config)
        weights_for(checkpoint, spec)
    finally:
        path.write_bytes(whole)


TARGETS = {
    "GGUF file": gguf_file,
    "safetensors file": safetensors_file,
    "config.json": config_json,
    "checkpoint folder": checkpoint_folder,
}
