"""What sentence-transformers' files say of a model that embeds texts (its 5.1: `modules.json`, `models/`).

A model is a list of modules: the transformer, how its states are pooled, perhaps dense layers
(`dense_modules`), and perhaps that vectors are normalised. Others (word weights) are refused by name, and so
is pooling that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.embedding_record import EmbeddingRecord, Pooling, pooling_modes
from edgesdk.bundle.records import JsonValue
from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.dense_modules import read_dense_modules
from edgesdk_converters.checkpoints.text_file import (
    Json,
    parse_json,
    read_json,
    read_optional_json,
    read_text,
)

MODULES = "modules.json"
_PROMPTS, _TRANSFORMER = "config_sentence_transformers.json", "sentence_bert_config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "lasttoken": "last", "cls": "cls"}
_MOST_PROMPTS, _MOST_MODULES = 1000, 16


@dataclass(frozen=True)
class SentenceTransformer:
    """What the files say.

    Attributes:
        record: how texts are embedded.
        projection: (W, E) float32, the dense layers in one; None without.
        folders: of the dense layers, with a file of weights each.
    """

    record: EmbeddingRecord
    projection: NDArray[np.float32] | None = None
    folders: tuple[Path, ...] = ()


def read_sentence_transformer(folder: Path, config: Json) -> SentenceTransformer | None:
    """Reads how a directory's model embeds texts.

    Args:
        folder: the directory.
        config: its config.json, of the text model.

    Returns:
        That; None for a directory that is no sentence-transformers model.

    Raises:
        CheckpointError: a file is damaged, or says something this version does not know.
    """
    if not (folder / MODULES).is_file():
        return None
    kinds = _modules(folder)
    if [kind for kind, _ in kinds[:2]] != ["Transformer", "Pooling"]:
        raise CheckpointError(
            f"{folder / MODULES} lists {', '.join(kind for kind, _ in kinds)}; expected Transformer, "
            "Pooling, and perhaps Dense and Normalize"
        )
    normalises = kinds[-1][0] == "Normalize"
    between = kinds[2 : len(kinds) - normalises]
    other = next((kind for kind, _ in between if kind != "Dense"), None)
    if other is not None:
        raise CheckpointError(
            f"{folder / MODULES} has the module {quoted(other)} after pooling; expected Dense, and Normalize "
            "at the end"
        )
    settings = read_optional_json(folder / _TRANSFORMER)
    if settings.get("do_lower_case"):
        raise CheckpointError(f"{folder / _TRANSFORMER} asks for do_lower_case, which is not known here")
    prompts, default = _prompts(folder)
    record = EmbeddingRecord(
        pooling=_pooling(folder / kinds[1][1] / "config.json", config),
        normalise=normalises,
        prompts=prompts,
        default_prompt=default,
    )
    places = tuple(folder / place for _, place in between)
    return SentenceTransformer(record, read_dense_modules(places, config) if places else None, places)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Kind and folder of each module."""
    path = folder / MODULES
    listed = parse_json(path, '{"modules": ' + read_text(path) + "}")["modules"]
    if not isinstance(listed, list) or not 2 <= len(listed) <= _MOST_MODULES:
        raise CheckpointError(f"{path} holds {quoted(listed)}, expected a list of modules")
    kinds = []
    for entry in listed:
        kind, place = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        plain = isinstance(place, str) and (place == "" or Path(place).name == place) and place != ".."
        if not isinstance(kind, str) or not plain or not isinstance(place, str):
            raise CheckpointError(
                f"{path} holds the module {quoted(entry)}, expected a type and a plain path"
            )
        kinds.append((kind.rpartition(".")[2], place))
    return kinds


def _pooling(path: Path, config: Json) -> Pooling:
    settings = read_json(path)
    modes = pooling_modes(settings)
    mode = modes[0] if len(modes) == 1 else None
    if not isinstance(mode, str) or mode not in _POOLINGS:
        raise CheckpointError(f"{path} pools by {quoted(modes)}; expected one of {', '.join(_POOLINGS)}")
    if settings.get("include_prompt", True) is not True:
        raise CheckpointError(f"{path} leaves the prompt out of pooling, which is not known here")
    width, E = (
        settings.get("word_embedding_dimension", settings.get("embedding_dimension")),
        config.get("hidden_size"),
    )
    if width is not None and width != E:
        raise CheckpointError(
            f"{path} has vectors of {quoted(width)}, the model of {quoted(E)}; expected one"
        )
    return _POOLINGS[mode]


def _prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    path = folder / _PROMPTS
    settings = read_optional_json(path)
    prompts: JsonValue = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or len(prompts) > _MOST_PROMPTS:
        raise CheckpointError(f"{path} has prompts {quoted(prompts)}, expected an object")
    read: dict[str, str] = {}
    for name, text in prompts.items():
        if not isinstance(text, str):
            raise CheckpointError(f"{path} has the prompt {quoted(name)}: {quoted(text)}, expected a text")
        read[name] = text
    default = settings.get("default_prompt_name")
    if default is not None and (not isinstance(default, str) or default not in read):
        raise CheckpointError(
            f"{path} has default_prompt_name {quoted(default)}, expected one of its prompts"
        )
    return read, default
