"""Fetches a checkpoint from the Hugging Face hub: pinned, cached, resumable, and offline once cached.

All of that is huggingface_hub's doing; what is chosen here is which files, what an error says, and that a
cached file is what its name says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesdk.bundle.integrity import cache_folder
from edgesdk.errors import CheckpointError, MissingExtra
from edgesdk_converters.checkpoints.hub_blobs import damaged_files, remove_blob

_WANTED = [
    "*.json",
    "*.safetensors",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "README.md",
]
# A pattern's star matches folders too: those hold the same weights in other formats, but for the settings of
# sentence-transformers' modules, in folders such as 1_Pooling, and the weights of those that have some
# (2_Dense).
_UNWANTED = [
    "[!1-9]*/*.json",
    "[!1-9]*/*.safetensors",
    "[1-9][!_]*/*.safetensors",
    "consolidated*.safetensors",
]
_HUB_VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_hub_id(source: str) -> bool:
    """Whether a source has the form `owner/name`."""
    return _HUB_ID.fullmatch(source) is not None


def fetch_hub(hub_id: str, revision: str | None = None, cache: Path | None = None) -> tuple[Path, str]:
    """Downloads what conversion needs of a repository, or finds it in the cache.

    Args:
        hub_id: `owner/name`.
        revision: commit, branch or tag; None for the default branch.
        cache: the hub's cache folder; None for its own choice.

    Returns:
        The folder, and the commit it is.

    Raises:
        CheckpointError: there is no such repository or revision, or no network and no cached copy.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtra("huggingface-hub", "convert") from error
    with hub_errors(hub_id, revision):
        kept = hub_cache(cache)

        def download() -> Path:
            return Path(
                snapshot_download(
                    hub_id,
                    revision=revision,
                    cache_dir=kept,
                    allow_patterns=_WANTED,
                    ignore_patterns=_UNWANTED,
                )
            )

        folder = download()
        damaged = damaged_files(folder.rglob("*"))
        if damaged:
            for link in damaged:
                remove_blob(link)
            folder = download()
            damaged = damaged_files(folder.rglob("*"))
    if damaged:
        raise CheckpointError(
            f"{damaged[0].name} of {_where(hub_id, revision)} is damaged, also when it is fetched again"
        )
    # Snapshots are folders named by their commit.
    return folder, folder.name


@contextmanager
def hub_errors(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turns what the hub's package raises into one line.

    Raises:
        CheckpointError: in place of any other error.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    where = _where(hub_id, revision)
    try:
        yield
    except CheckpointError:
        raise
    except RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has no revision {revision!r} of {hub_id}") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{hub_id} asks for its terms to be accepted on the hub; do that and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no directory {hub_id!r}, and the hub has no repository of that name, or it is private "
            "(set HF_TOKEN)"
        ) from error
    except Exception as error:  # its transport's errors are of packages that differ between versions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(
            f"there is no directory {hub_id!r}; as a hub id, {where} is not in the cache and cannot be "
            f"fetched: {reason}"
        ) from error


def hub_cache(given: Path | None) -> Path | None:
    """Where the hub's files are kept; None for its own choice.

    Args:
        given: a folder that was chosen; None for none.

    Raises:
        CheckpointError: a user without a home folder, who would get one named ~, has no cache folder either.
    """
    if given is not None:
        return given
    if any(os.environ.get(name) for name in _HUB_VARIABLES) or os.path.isabs(os.path.expanduser("~")):
        return None
    try:
        return cache_folder() / "hub"
    except FileNotFoundError as error:
        raise CheckpointError(f"nothing can be fetched from the hub: {error.strerror}") from error


def _where(hub_id: str, revision: str | None) -> str:
    return f"{hub_id}@{revision}" if revision else hub_id
