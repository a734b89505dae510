"""Folders of what is trained beside a model, drafts and streams: files' names, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.records import JsonValue
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import CheckpointError, first_line

CONFIG, WEIGHTS, TRAINING = "config.json", "model.safetensors", "training.json"

NumberForm = Literal["float32", "float16"]
"""How numbers are written; bfloat16 is read as well, and they are float32 everywhere else."""

Tensors = Mapping[str, NDArray[np.float32]]


def stored_as(tensors: Tensors, numbers: NumberForm, remedy: str) -> dict[str, NDArray[np.floating]]:
    """Tensors as they are written.

    Args:
        tensors: by name.
        numbers: how they are stored.
        remedy: what to do about numbers that are too large.

    Raises:
        CheckpointError: there are such.
    """
    with np.errstate(over="ignore"):
        stored = {name: value.astype(numbers) for name, value in tensors.items()}
    beyond = next((name for name, value in stored.items() if not np.isfinite(value).all()), None)
    if beyond is not None:
        raise CheckpointError(f"{beyond!r} has numbers beyond {numbers}; {remedy}")
    return stored


def write_trained(
    folder: Path,
    what: str,
    tensors: Mapping[str, NDArray[np.generic]],
    config: JsonValue,
    training: Mapping[str, JsonValue] | None,
    *,
    form: str,
) -> None:
    """Writes a folder, which is made; each file appears whole or not at all, the weights first.

    Args:
        folder: where; what is there is replaced.
        what: it is, such as `draft`.
        tensors: by name.
        config: of `config.json`.
        training: for people; None for no such file.
        form: of the folder, which the weights name, too.

    Raises:
        CheckpointError: a file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # As bytes: what safetensors writes by itself nobody else may read.
        write_file(folder / WEIGHTS, save(dict(tensors), {"format": form}))
        write_file(folder / CONFIG, json.dumps(config, indent=1) + "\n")
        if training is not None:
            write_file(folder / TRAINING, json.dumps(training, indent=1) + "\n")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(f"the {what} {folder} cannot be written: {reason}") from error
