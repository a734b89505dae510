"""The state of a training run in one file: parameters, optimiser and place in the data.

Data and draws are functions of seed and step, so the number of steps done is the whole place. The file is
written whole or not at all; one that stands there stays until then, also where the disk is full.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from edgesdk.bundle.write_file import write_file
from edgesdk.errors import CheckpointError

Tree: TypeAlias = Any
"""A pytree of arrays, as jax and optax have them."""

_FORMAT = "edgesdk-training"
_MOST_DIGITS = 15
"""Of a number of steps."""


@dataclass(frozen=True)
class RunState:
    """Where a run is.

    Attributes:
        step: steps done.
        parameters: what is trained.
        optimiser: its state.
    """

    step: int
    parameters: Tree
    optimiser: Tree


def save_run(path: Path, state: RunState, settings: Mapping[str, object]) -> None:
    """Writes a state.

    Args:
        path: of the file.
        state: of the run.
        settings: what must be the same for the run to go on.

    Raises:
        OSError: it cannot be written; what stood there stands there still.
    """
    named = {**_named("parameters", state.parameters), **_named("optimiser", state.optimiser)}
    arrays = {name: np.asarray(value) for name, value in named.items()}
    header = {"format": _FORMAT, "step": str(state.step), "settings": json.dumps(settings, sort_keys=True)}

    def write(file: Path) -> None:
        try:
            save_file(arrays, file, header)
        except SafetensorError as error:  # it hides what the system said
            raise OSError(f"the state of the run cannot be written: {error}") from None

    write_file(path, write)


def load_run(path: Path, like: RunState, settings: Mapping[str, object]) -> RunState:
    """Reads a state.

    Args:
        path: of the file.
        like: a state of the same run, for names, shapes and types.
        settings: of this run.

    Raises:
        CheckpointError: it is damaged, or that of another run.
    """
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, TypeError) as error:  # TypeError of numbers that numpy has not
        raise CheckpointError(f"{path} cannot be read ({error}); remove it to begin again") from None
    step = header.get("step", "")
    if header.get("format") != _FORMAT or not step.isdecimal() or len(step) > _MOST_DIGITS:
        raise CheckpointError(f"{path} is no state of a training run; give another folder")
    before = _settings(path, header.get("settings", "{}"))
    changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    if changed:
        key = changed[0]
        raise CheckpointError(
            f"{path} is of a run whose {key} is {before.get(key)!r}, not {settings.get(key)!r}; give the "
            "same options to go on, or another folder"
        )
    return RunState(
        int(step),
        _filled(path, "parameters", like.parameters, found),
        _filled(path, "optimiser", like.optimiser, found),
    )


def _settings(path: Path, text: str) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not say what run it is of; remove it to begin again")
    return found


def _named(part: str, tree: Tree) -> dict[str, Tree]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {part + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _filled(path: Path, part: str, like: Tree, found: Mapping[str, np.ndarray[Any, Any]]) -> Tree:
    names = _named(part, like)
    for name, leaf in names.items():
        have = found.get(name)
        if have is None or have.shape != leaf.shape or have.dtype != leaf.dtype:
            what = "is missing" if have is None else f"is {have.dtype}{have.shape}"
            raise CheckpointError(f"{name} of {path} {what}, expected {leaf.dtype}{leaf.shape}; begin again")
    treedef = jax.tree_util.tree_structure(like)
    return jax.tree_util.tree_unflatten(treedef, [jnp.asarray(found[name]) for name in names])
