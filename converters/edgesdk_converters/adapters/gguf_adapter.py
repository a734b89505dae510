"""Reads an adapter in a GGUF file, as llama.cpp's convert_lora_to_gguf.py writes it (its llama-adapter.cpp).

Every changed matrix NAME has `NAME.lora_a` (r, in) and `NAME.lora_b` (out, r); of the embedding table
`lora_a` is (V, r) and `lora_b` (E, r). The scale is alpha / r, or 1 where alpha is 0.
"""

from __future__ import annotations

import math
from pathlib import Path

from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.adapters.adapter import Adapter, LowRank, listed
from edgesdk_converters.checkpoints.digests import describe_file
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

_SIDES = (".lora_a", ".lora_b")
_TABLE = "token_embd.weight"


def read_gguf_adapter(path: Path) -> Adapter:
    """Opens a GGUF file that holds an adapter.

    Raises:
        CheckpointError: it holds none, is damaged, or says something this version does not know.
        MissingExtra: the gguf package is not installed.
    """
    header = read_gguf_header(path)
    kind = header.metadata.get("general.type", "model")
    if kind != "adapter":
        raise CheckpointError(f"{path.name} holds a general.type of {quoted(kind)}; expected 'adapter'")
    method = header.metadata.get("adapter.type")
    if method != "lora":
        raise CheckpointError(f"{path.name} holds an adapter.type of {quoted(method)}; expected 'lora'")
    if "adapter.alora.invocation_tokens" in header.metadata:
        raise CheckpointError(
            f"{path.name} is an activated LoRA, which acts after certain tokens only; it cannot be merged"
        )
    alpha = header.metadata.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha < 0:
        raise CheckpointError(f"{path.name} has adapter.lora.alpha {quoted(alpha)}; expected 0 or more")
    tensors = GgufTensors(path, header.tensors)
    sides = {name for name in tensors if name.endswith(_SIDES)}
    matrices = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors if name in sides))
    alone = [name for name in matrices if any(name + side not in sides for side in _SIDES)]
    if alone:
        raise CheckpointError(f"{path.name} has one of {', '.join(_SIDES)} only for {listed(alone)}")
    if not sides:
        raise CheckpointError(f"{path.name} changes no matrix; expected tensors that end in .lora_a, .lora_b")
    return Adapter(
        name=path.stem,
        dialect="gguf",
        tensors=tensors,
        low_rank={name: _read(path.name, tensors, name, float(alpha)) for name in matrices},
        added={},
        whole={name: name for name in tensors if name not in sides},
        targets=None,
        ties_head=False,
        file=describe_file(path),
    )


def _read(file: str, tensors: GgufTensors, name: str, alpha: float) -> LowRank:
    a, b = (tensors.load(name + side) for side in _SIDES)
    if name == _TABLE and a.ndim == b.ndim == 2:
        a, b = b.T, a
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise CheckpointError(
            f"{file} has {quoted(name)} as {a.shape} and {b.shape}; expected (r, in) and (out, r)"
        )
    return LowRank(a, b, alpha / a.shape[0] if alpha else 1.0)
