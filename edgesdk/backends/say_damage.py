"""Turns what reading a bundle's file raises into one line; how the file is read is its reader's business."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesdk.errors import BundleError


@contextmanager
def say_damage(path: Path, *damage: type[Exception]) -> Iterator[None]:
    """Says of a file that it is damaged, or cannot be read.

    Args:
        path: the file.
        damage: what its reader raises where the file is damaged.

    Raises:
        BundleError: in place of these, and of what opening and mapping raise.
    """
    try:
        yield
    except damage as error:
        raise BundleError(f"{path.name} is damaged: {error}; copy or convert the bundle again") from error
    except (OSError, ValueError, BufferError) as error:  # an empty file cannot be mapped
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{path.name} cannot be read ({reason}); copy or convert the bundle again"
        ) from error
