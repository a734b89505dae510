"""Aliases: further names of the bundles on a shelf, in one small file beside them.

    .aliases.json    {"chat": "smollm2"}

An alias stands for the name of a bundle, never for another alias. A bundle of the same name wins, so that a
file that somebody has edited hides nothing. The file is replaced whole, by one process at a time.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from edgesdk.bundle.file_lock import FileLock
from edgesdk.bundle.model_names import is_name
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import BundleError

ALIASES_NAME = ".aliases.json"
MOST_ALIASES = 1000

_LOCK_NAME = ".edgesdk-aliases.lock"
_LIMIT_BYTES = 1 << 20


def read_aliases(folder: Path) -> dict[str, str]:
    """The aliases of a shelf, sorted; empty where there are none.

    Args:
        folder: the shelf.

    Raises:
        BundleError: the file is damaged, or holds what no alias can be.
    """
    path = folder / ALIASES_NAME
    try:
        with path.open("rb") as stream:
            text = stream.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        # A shelf below a plain file, or named with a character that no system has, is one without aliases.
        if error.errno in (errno.ENOTDIR, errno.EINVAL):
            return {}
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError:  # a null character
        return {}
    try:
        found = json.loads(text) if len(text) <= _LIMIT_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if (
        not isinstance(found, dict)
        or len(found) > MOST_ALIASES
        or not all(
            isinstance(target, str) and is_name(target) and is_name(name) for name, target in found.items()
        )
    ):
        raise BundleError(
            f"{path} is damaged, expected an object of names; remove it, and set aliases "
            "anew with: edgesdk alias"
        )
    return dict(sorted(found.items()))


def change_aliases(folder: Path, change: Callable[[dict[str, str]], Mapping[str, str]]) -> None:
    """Changes the aliases of a shelf, in turn with other processes.

    Args:
        folder: the shelf, which is there.
        change: from what is there to what shall be; what it raises leaves all as it was.

    Raises:
        BundleError: the file is damaged, or there would be too many.
        OSError: it cannot be written.
    """
    with FileLock(folder / _LOCK_NAME):
        before = read_aliases(folder)
        after = dict(sorted(change(dict(before)).items()))
        if len(after) > MOST_ALIASES:
            raise BundleError(
                f"the shelf {folder} has {MOST_ALIASES} aliases, and takes no more; remove some"
            )
        if after == before:
            return
        path = folder / ALIASES_NAME
        if after:
            write_file(path, json.dumps(after, indent=1) + "\n")
        else:
            path.unlink(missing_ok=True)
