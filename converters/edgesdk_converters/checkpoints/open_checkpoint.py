"""Opens a checkpoint, whatever form its source has."""

from __future__ import annotations

import os
from pathlib import Path

from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.default_model import fetch_verified, find_named
from edgesdk_converters.checkpoints.digests import Progress
from edgesdk_converters.checkpoints.fetch_hub import fetch_hub, is_hub_id
from edgesdk_converters.checkpoints.fetch_hub_gguf import fetch_hub_gguf, split_quantised
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS
from edgesdk_converters.checkpoints.open_gguf import open_gguf
from edgesdk_converters.checkpoints.open_huggingface import CONFIG, open_huggingface
from edgesdk_converters.checkpoints.refuse_derived import refuse_adapter


def open_checkpoint(
    source: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Opens a checkpoint.

    Args:
        source: a directory in Hugging Face's layout, a `.gguf` file or the first part of one, a named model,
            a hub id, or one with the quantisation of one of its GGUF files, `owner/name:Q8_0`. A directory
            of a named model's name is taken for it only if it holds a checkpoint.
        revision: commit, branch or tag, for a hub id.
        cache_dir: where to keep what is downloaded; None for edgesdk's cache folder (named models) and
            the hub's own (hub ids).
        progress: told how far hashing is.

    Raises:
        CheckpointError: there is nothing of that name, or it cannot be read.
        UnsupportedOption: a revision is given for something that has none.
        MissingExtra: a package of the `convert` extra is missing.
    """
    path = Path(source)
    is_folder, is_file = os.path.isdir(source), os.path.isfile(source)  # which, unlike Path's, never raise
    local = is_folder or is_file or source in NAMED_MODELS
    if local and revision is not None:
        raise UnsupportedOption(f"{source} is not a hub id, so it has no revision {revision!r}")
    if is_folder and ((path / CONFIG).is_file() or source not in NAMED_MODELS):
        return _open_folder(path, progress)
    if is_file:
        if path.suffix == ".safetensors":
            raise CheckpointError(f"{source} holds weights alone; give its folder, with {CONFIG}")
        return open_gguf(path, progress=progress)
    if source in NAMED_MODELS:
        file, described = fetch_verified(source, cache_dir, progress)
        return open_gguf(file, name=NAMED_MODELS[source].title, described=described)
    chosen = split_quantised(source)
    if chosen is not None:
        file, commit = fetch_hub_gguf(*chosen, revision, cache_dir)
        return open_gguf(file, location=source, revision=commit, progress=progress)
    if is_hub_id(source) and path.suffix != ".gguf":
        folder, commit = fetch_hub(source, revision, cache_dir)
        return open_huggingface(folder, location=source, revision=commit, progress=progress)
    raise CheckpointError(
        f"{source[:200]!r} is no directory, no file, no hub id (owner/name or owner/name:Q8_0) and "
        f"no named model ({', '.join(NAMED_MODELS)})"
    )


def open_local(source: str, revision: str | None = None) -> Checkpoint:
    """Opens a checkpoint that is here, without digests of its files; fetches and writes nothing.

    Args:
        source: as for `open_checkpoint`.
        revision: likewise; whatever has one would be fetched.

    Raises:
        CheckpointError: it is not here, or cannot be read.
        UnsupportedOption: it would have to be fetched.
        MissingExtra: a package of the `convert` extra is missing.
    """
    path = Path(source)
    is_folder, is_file = os.path.isdir(source), os.path.isfile(source)
    if is_folder and ((path / CONFIG).is_file() or source not in NAMED_MODELS):
        return _open_folder(path, None, hashed=False)
    if is_file and path.suffix != ".safetensors":
        return open_gguf(path, hashed=False)
    if source in NAMED_MODELS:
        file = find_named(source)
        if file is not None:
            return open_gguf(file, name=NAMED_MODELS[source].title, hashed=False)
    elif not (split_quantised(source) or is_hub_id(source)):
        return open_checkpoint(source, revision=revision)  # says what is wrong
    raise UnsupportedOption(
        f"{source[:200]} is not here yet, and an estimate fetches nothing; fetch it first, or give its "
        "folder or file"
    )


def _open_folder(folder: Path, progress: Progress | None, *, hashed: bool = True) -> Checkpoint:
    if not (folder / CONFIG).is_file():
        refuse_adapter(folder)
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"; did you mean {ggufs[0]}?" if ggufs else ""
        raise CheckpointError(f"{folder} has no {CONFIG}; expected a Hugging Face directory{hint}")
    return open_huggingface(folder, progress=progress, hashed=hashed)
