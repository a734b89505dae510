"""The common name of what can carry a plan out."""

from __future__ import annotations


class ModelOrEngine:
    """A loaded `Model`, on which an engine is opened for the time of the call, or an `Engine`."""
