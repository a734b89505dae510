"""Fetches a checkpoint from the Hugging Face hub: pinned, cached, resumable, and offline once cached."""

from __future__ import annotations

import re
from pathlib import Path

from edgesdk.errors import CheckpointError, MissingExtra

_PATTERNS = ["*.json", "*.safetensors", "chat_template.jinja", "*.model"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
        from huggingface_hub.errors import (
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtra("huggingface-hub", "convert") from error
    where = f"{hub_id}@{revision}" if revision else hub_id
    try:
        folder = snapshot_download(hub_id, revision=revision, cache_dir=cache, allow_patterns=_PATTERNS)
    except RevisionNotFoundError as error:
        raise CheckpointError(f"the hub has no revision {revision!r} of {hub_id}") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the hub has no repository {hub_id}, or it needs an account (set HF_TOKEN)"
        ) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise CheckpointError(f"{where} is not in the cache and cannot be fetched: {reason}") from error
    # Snapshots are folders named by their commit.
    return Path(folder), Path(folder).name
