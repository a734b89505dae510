"""Opens a GGUF file as a checkpoint: header, configuration, tensors, tokenizer and digest in one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgesdk.bundle.embedding_record import EmbeddingRecord, Pooling
from edgesdk.bundle.manifest import GenerationDefaults, Source, SourceFile
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.digests import Progress, describe_file
from edgesdk_converters.checkpoints.generation_defaults import ABOVE_ZERO, checked_number
from edgesdk_converters.checkpoints.gguf_config import config_from_gguf
from edgesdk_converters.checkpoints.gguf_header import MetadataValue, read_gguf_header
from edgesdk_converters.checkpoints.gguf_parts import model_name, part_paths, read_parts
from edgesdk_converters.checkpoints.lattice_tensors import LatticeTensors
from edgesdk_converters.tokenizers.from_gguf import tokenizer_from_gguf

_POOLINGS: Mapping[int, Pooling] = {1: "mean", 2: "cls", 3: "last"}
"""llama.cpp's `llama_pooling_type`."""
_SAMPLING = "general.sampling."


def open_gguf(
    path: Path,
    *,
    name: str | None = None,
    described: SourceFile | None = None,
    location: str | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
    hashed: bool = True,
) -> Checkpoint:
    """Opens a GGUF file, or all parts of one.

    Args:
        path: the file, or the first part.
        name: of the model; None for the file's name.
        described: the file's digest, when it is known already.
        location: where it was fetched from; None for the file's name.
        revision: hub commit, where it was fetched from the hub.
        progress: told how far hashing is.
        hashed: whether files get their digests, which reads them whole, and grids are looked for; empty ones
            and none if not.

    Raises:
        CheckpointError: it is damaged, lacks a part, is no model, or says something this version does not
            know.
        MissingExtra: the gguf package is not installed.
    """
    header = read_gguf_header(path)
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        hint = f"; convert its model with --merge-adapter {path}" if kind == "adapter" else ""
        raise CheckpointError(f"{path.name} holds a general.type of {quoted(kind)}; expected 'model'{hint}")
    tensors = read_parts(path, header)
    lattice = LatticeTensors(tensors) if hashed else None
    config, tokenizer = config_from_gguf(header.metadata, tensors), tokenizer_from_gguf(header.metadata)
    # Last: a file that is refused need not be hashed.
    paths = () if described else part_paths(path)
    files = (described,) if described else tuple(_describe(part, progress, hashed) for part in paths)
    licence = header.metadata.get("general.license")
    return Checkpoint(
        name=name or model_name(path.name),
        config=config,
        dialect="gguf",
        tensors=tensors if lattice is None else lattice,
        tokenizer=tokenizer,
        generation=_generation(header.metadata),
        source=Source(kind="gguf", location=location or path.name, files=files, revision=revision),
        licence=licence if isinstance(licence, str) else None,
        notes=(*(() if lattice is None else lattice.notes), *tokenizer.notes),
        embedding=_embedding(header.metadata),
    )


def _describe(path: Path, progress: Progress | None, hashed: bool) -> SourceFile:
    return describe_file(path, progress) if hashed else SourceFile(path.name, "", path.stat().st_size)


def _embedding(metadata: Mapping[str, MetadataValue]) -> EmbeddingRecord | None:
    """How a model embeds texts; llama.cpp normalises every vector, and keeps no prompts.

    Raises:
        CheckpointError: it pools in a way that is not known.
    """
    key = f"{metadata.get('general.architecture')}.pooling_type"
    kind = metadata.get(key, 0)
    if kind == 0:
        return None
    if type(kind) is not int or kind not in _POOLINGS:
        raise CheckpointError(f"the GGUF file has {key} {quoted(kind)}, expected one of {sorted(_POOLINGS)}")
    return EmbeddingRecord(_POOLINGS[kind], normalise=True)


def _generation(metadata: Mapping[str, MetadataValue]) -> GenerationDefaults:
    """Recommended sampling, which newer files carry."""
    said: dict[str, JsonValue] = {
        key: value if isinstance(value, int | float) else str(value)[:40]
        for key, value in metadata.items()
        if key.startswith(_SAMPLING)
    }

    def number(name: str, *, least: float = 0, most: float = 1e6, whole: bool = False) -> float | None:
        return checked_number(said, _SAMPLING + name, "the file", least=least, most=most, whole=whole)

    temperature, top_p = number("temp"), number("top_p", most=1)
    top_k = number("top_k", least=-1, whole=True)
    return GenerationDefaults(
        temperature=None if top_p == 0 else temperature,  # nothing is left to draw from
        top_k=None if top_k is None else max(int(top_k), 0),
        top_p=top_p or None,
        repetition_penalty=number("penalty_repeat", least=ABOVE_ZERO),
        min_p=number("min_p", most=1),
    )
