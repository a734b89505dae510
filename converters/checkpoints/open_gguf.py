"""Opens a GGUF file as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from converters.checkpoints.checkpoint import Checkpoint
from converters.checkpoints.digests import describe_file
from converters.checkpoints.gguf_config import config_from_gguf
from converters.checkpoints.gguf_file import GgufTensors
from converters.checkpoints.gguf_header import MetadataValue, read_gguf_header
from edgesdk.bundle.manifest import GenerationDefaults, Source
from edgesdk.errors import CheckpointError


def open_gguf(path: Path, *, name: str | None = None) -> Checkpoint:
    """Opens a GGUF file.

    Args:
        path: the file.
        name: of the model; None for the file's name.

    Raises:
        CheckpointError: it is damaged, in parts, or says something this version does not know.
        MissingExtra: the gguf package is not installed.
    """
    from converters.tokenizers.from_gguf import tokenizer_from_gguf

    header = read_gguf_header(path)
    parts = header.metadata.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise CheckpointError(f"{path.name} is one of {parts} parts; join them with llama-gguf-split --merge")
    tensors = GgufTensors(path, header.tensors)
    licence = header.metadata.get("general.license")
    return Checkpoint(
        name=name or path.stem,
        config=config_from_gguf(header.metadata, tensors),
        dialect="gguf",
        tensors=tensors,
        tokenizer=tokenizer_from_gguf(header.metadata),
        generation=_generation(header.metadata),
        source=Source(kind="gguf", location=path.name, files=(describe_file(path),)),
        licence=licence if isinstance(licence, str) else None,
    )


def _generation(metadata: Mapping[str, MetadataValue]) -> GenerationDefaults:
    """Recommended sampling, which newer files carry."""
    top_k = _number(metadata, "general.sampling.top_k")
    return GenerationDefaults(
        temperature=_number(metadata, "general.sampling.temp"),
        top_k=None if top_k is None else int(top_k),
        top_p=_number(metadata, "general.sampling.top_p"),
        repetition_penalty=_number(metadata, "general.sampling.penalty_repeat"),
    )


def _number(metadata: Mapping[str, MetadataValue], key: str) -> float | None:
    value = metadata.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
