"""Versions of this package and of others, as their metadata has them."""

from __future__ import annotations

import functools
import importlib.metadata
from importlib.metadata import PackageNotFoundError


@functools.cache
def package_version(package: str) -> str:
    """Version of a distribution; its metadata are read once, since a load asks five times.

    Raises:
        PackageNotFoundError: it is not installed, which is not remembered.
    """
    return importlib.metadata.version(package)


def read_version() -> str:
    """Version of edgesdk; `unknown` for a source tree that was never installed."""
    try:
        return package_version("edgesdk")
    except PackageNotFoundError:
        return "unknown"
