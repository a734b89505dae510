"""GGUF files, made of tiny checkpoints and of anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data import tiny_gguf


@pytest.fixture(scope="session")
def write_gguf() -> Callable[..., Path]:
    """Writes a GGUF file: path, tensors (array and type by name), a function that adds metadata."""
    return tiny_gguf.write_gguf


@pytest.fixture(scope="session")
def gguf_from_tiny() -> Callable[..., Path]:
    """Writes a GGUF file from a tiny checkpoint: path, its folder's name, its config file, and a
    function that adds metadata, and one that chooses the type of a matrix by its name."""
    return tiny_gguf.write_tiny_gguf


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """Where the tiny checkpoints are."""
    return tiny_gguf.TINY
