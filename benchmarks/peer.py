"""Peers for comparisons: environments of their own, and llama.cpp's models in its types."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import click
from llama_build import arguments_here, build_name

from edgesdk.bundle.integrity import cache_folder
from edgesdk_converters.checkpoints.digests import describe_file
from edgesdk_converters.checkpoints.gguf_header import read_gguf_header

PEER_VERSION = "0.3.36"
WORKERS = Path(__file__).parent / "workers"


def peer_python() -> Path:
    """The interpreter of llama.cpp's environment, made on first use for this processor."""
    arguments = arguments_here()
    return make_environment(
        f"llama-cpp-python-{PEER_VERSION}-{build_name(arguments)}",
        # A wheel that pip kept may have been built for another processor.
        [f"llama-cpp-python=={PEER_VERSION}", "--no-cache-dir"],
        {"CMAKE_ARGS": " ".join(arguments)} if arguments else {},
    )


def make_environment(
    name: str, packages: Sequence[str], variables: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """The interpreter of an environment of that name in the cache folder, made on first use.

    Args:
        name: folder name.
        packages: requirements and options of pip; a change does not change an environment that exists.
        variables: to set while they are installed.

    Raises:
        click.ClickException: they cannot be installed.
    """
    folder = cache_folder() / "peers" / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (folder / "done").exists():
        click.echo(f"installing {name}, which may compile for ten minutes", err=True)
        venv.create(folder, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "-q", *packages]
        done = subprocess.run(
            command,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, **variables},
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise click.ClickException(f"{name} cannot be installed: {said[-1] if said else done.returncode}")
        (folder / "done").touch()
    return python


def stored_kind(source: Path) -> str:
    """What most weights of a GGUF file are stored as: `Q4_1`, `F16`, ..."""
    from gguf.constants import LlamaFileType

    number = read_gguf_header(source).metadata.get("general.file_type")
    try:
        return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return "unknown"


def peer_model(python: Path, kind: str, source: Path) -> Path:
    """A GGUF file in one of llama.cpp's types, made by its own quantiser without importance data.

    Args:
        python: of the peer's environment.
        kind: `Q8_0`, `Q4_K_M`, ...; the source itself when it is of that type.
        source: a GGUF file.
    """
    if kind == stored_kind(source):
        return source
    digest = describe_file(source).sha256
    target = cache_folder() / "peers" / f"{source.stem}-{digest[:8]}.{kind}.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        command = [python, WORKERS / "llamacpp_worker.py", "quantise", source, draft, kind]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise click.ClickException(
                f"llama.cpp could not make {kind} of {source.name}: {said[-1] if said else ''}"
            )
        draft.replace(target)
    return target
