"""The model in the formats of peers that start from PyTorch, made once and kept in the cache folder.

Both start from a folder as transformers writes it, with the weights of the GGUF file in floating point. Each
model is made aside and put in place when it is whole. It knows nothing of how contenders run.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from peer import WORKERS

from edgesdk.bundle.integrity import cache_folder
from edgesdk_converters.checkpoints.digests import describe_file

LITERT_LM_CACHES = (672, 2048)
"""Tokens that each of LiteRT-LM's files holds: 512 and 128 with room, and a whole context of 2,048. Its
attention reads the whole cache at every token, so one that fits is faster."""


def dequantised(python: Path, source: Path) -> Path:
    """A folder of transformers with the weights of a GGUF file in float32.

    Args:
        python: of an environment with torch, transformers, accelerate and gguf.
        source: the GGUF file.

    Raises:
        click.ClickException: it cannot be made.
    """

    def make(draft: Path) -> None:
        _run([python, WORKERS / "dequantise.py", source, draft], "transformers could not read it")

    return _made(_home(source, "float32"), make)


def genai_model(python: Path, source: Path) -> Path:
    """A folder of onnxruntime-genai in int4, made by its own builder with its own settings.

    Args:
        python: of an environment with onnxruntime-genai and what its builder needs.
        source: the GGUF file.

    Raises:
        click.ClickException: the builder failed.
    """

    def make(draft: Path) -> None:
        checkpoint = dequantised(python, source)
        command = [
            *(python, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", draft),
            *("-p", "int4", "-e", "cpu", "-c", cache_folder() / "peers" / "genai"),
        ]
        _run(command, "its builder failed")

    return _made(_home(source, "genai-int4"), make)


def litert_lm_model(python: Path, source: Path) -> Path:
    """A folder with a .litertlm file for each size of cache, named by the size, weights in int8.

    Args:
        python: of an environment with litert-torch and what `dequantised` needs.
        source: the GGUF file.

    Raises:
        click.ClickException: the exporter failed.
    """

    def make(draft: Path) -> None:
        checkpoint = dequantised(python, source)
        for size in LITERT_LM_CACHES:
            part = draft / f"{size}"
            _run([python, WORKERS / "litertlm_export.py", checkpoint, part, str(size)], "its exporter failed")
            found = next(part.glob("*.litertlm"), None)
            if found is None:
                raise click.ClickException("its exporter wrote no .litertlm file")
            found.replace(draft / f"{size}.litertlm")
            shutil.rmtree(part)

    return _made(_home(source, "litertlm-int8"), make)


def _home(source: Path, kind: str) -> Path:
    digest = describe_file(source).sha256
    return cache_folder() / "peers" / f"{source.stem}-{digest[:8]}.{kind}"


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made aside if it does not exist, so that a maker that fails half way leaves nothing."""
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            make(draft)
            draft.replace(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _run(command: Sequence[str | Path], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise click.ClickException(f"{what}: {said[-1][:300] if said else 'it said nothing'}")
