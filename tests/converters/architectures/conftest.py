"""The tiny checkpoints of tests/data/tiny, opened without the checkpoint readers under test elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import GenerationDefaults, Source, TokenizerRecord
from edgesdk.bundle.records import JsonValue
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint, Dialect
from edgesdk_converters.checkpoints.text_part import text_part
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.weights import ResidentWeights
from edgesdk_converters.tokenizers.tokenizer_files import TokenizerFiles
from tests.data.tiny_gguf import ARCHITECTURES

TINY = Path(__file__).parents[2] / "data" / "tiny"


class MemoryTensors:
    """A `TensorStore` over arrays that records what is read."""

    def __init__(self, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        self.arrays = dict(arrays)
        self.read: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def shape(self, name: str) -> tuple[int, ...]:
        return self.arrays[name].shape

    def stored_type(self, name: str) -> str:
        return "F32"

    def load(self, name: str) -> NDArray[np.float32]:
        self.read.append(name)
        return self.arrays[name].copy()

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        self.read.append(name)
        return self.arrays[name][start:stop].copy()


@dataclass(frozen=True)
class Tiny:
    """One configuration of a tiny checkpoint with what transformers computes for it."""

    name: str
    config: dict[str, JsonValue]
    arrays: dict[str, NDArray[np.float32]]
    sequences: list[NDArray[np.int32]]
    logits: list[NDArray[np.float32]]

    def checkpoint(
        self,
        config: Mapping[str, JsonValue] | None = None,
        arrays: Mapping[str, NDArray[np.float32]] | None = None,
        dialect: Dialect = "huggingface",
    ) -> Checkpoint:
        """It as a checkpoint, with another configuration or other tensors if given."""
        return Checkpoint(
            name=self.name,
            config=self.config if config is None else config,
            dialect=dialect,
            tensors=MemoryTensors(self.arrays if arrays is None else arrays),
            tokenizer=TokenizerFiles("", None, TokenizerRecord(None, (2,), False)),
            generation=GenerationDefaults(),
            source=Source("huggingface", self.name, ()),
            licence=None,
        )

    def program(self, checkpoint: Checkpoint | None = None) -> Program:
        """The step graph with its weights."""
        checkpoint = checkpoint or self.checkpoint()
        spec = read_spec(checkpoint.config)
        return Program(spec, build_decoder(spec), ResidentWeights(weights_for(checkpoint, spec)))


def _names() -> list[str]:
    names = []
    for config in sorted(TINY.glob("*/config*.json")):
        variant = config.name.removeprefix("config").removesuffix("json").strip(".")
        names.append(f"{config.parent.name}:{variant}" if variant else config.parent.name)
    return names


def _read_arrays(folder: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors import deserialize

    arrays = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in deserialize(file.read_bytes()):
            assert tensor["dtype"] == "BF16"
            bits = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
            arrays[name] = bits.view(np.float32).reshape(tensor["shape"])
    return arrays


def _load(name: str) -> Tiny:
    folder, _, variant = name.partition(":")
    ending = f".{variant}" if variant else ""
    with np.load(TINY / folder / f"reference{ending}.npz") as reference:
        cuts = np.cumsum(reference["lengths"])[:-1]
        sequences, logits = np.split(reference["tokens"], cuts), np.split(reference["logits"], cuts)
    config = json.loads((TINY / folder / f"config{ending}.json").read_text(encoding="utf-8"))
    part = text_part(config, MemoryTensors(_read_arrays(TINY / folder)))  # itself, but for wrappers
    arrays = {name: part.tensors.load(name) for name in part.tensors}
    return Tiny(name, dict(part.config), arrays, sequences, logits)


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], Tiny]:
    """A tiny checkpoint by name, `folder` or `folder:variant`."""
    return _load


def _in_gguf(name: str) -> bool:
    return _load(name).config["model_type"] in ARCHITECTURES


@pytest.fixture(scope="session", params=[name for name in _names() if _in_gguf(name)])
def any_tiny_in_gguf(request: pytest.FixtureRequest) -> Tiny:
    """Every tiny checkpoint in turn that llama.cpp's converter takes."""
    return _load(request.param)


@pytest.fixture(scope="session", params=_names())
def any_tiny(request: pytest.FixtureRequest) -> Tiny:
    """Every tiny checkpoint in turn."""
    return _load(request.param)
