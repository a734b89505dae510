"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def read_version() -> str:
    """The version; `unknown` for a source tree that was never installed."""
    try:
        return version("edgesdk")
    except PackageNotFoundError:
        return "unknown"
