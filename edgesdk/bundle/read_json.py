"""Reads a small JSON document of a bundle or a model, maybe a stranger's; what it says is the caller's."""

from __future__ import annotations

import json
from pathlib import Path

from edgesdk.errors import BundleError


def read_json(
    path: Path, name: str, limit_bytes: int, advice: str = "copy or convert the bundle again"
) -> object:
    """The document in a file; None for one that is larger than the limit.

    Args:
        path: the file.
        name: what messages call it.
        limit_bytes: most that is read.
        advice: what to do about one that is not JSON.

    Raises:
        BundleError: it cannot be read, or is not JSON.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(limit_bytes + 1)
        document: object = json.loads(text) if len(text) <= limit_bytes else None
    except OSError as error:
        raise BundleError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not valid JSON; {advice}") from error
    return document
