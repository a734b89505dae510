"""Weights by name, read when they are asked for.

`Weights` is the protocol; `DerivedWeights` lays computed weights over others, which is how transforms
change numbers without holding a model in memory. Nothing here caches: peak memory is what the caller
keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError

Array = NDArray[np.float32]


class Weights(Protocol):
    """Named float32 tensors."""

    def __iter__(self) -> Iterator[str]:
        """All names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight, without reading it."""

    def load(self, name: str) -> Array:
        """One weight as float32; the caller may keep it but must not write to it."""


@dataclass(frozen=True)
class Derived:
    """A weight computed from others when it is asked for.

    Attributes:
        shape: of the result.
        compute: gets the weights underneath and returns the result.
    """

    shape: tuple[int, ...]
    compute: Callable[[Weights], Array]


class DerivedWeights:
    """Weights over other weights: some replaced or added, some removed."""

    def __init__(self, base: Weights, changed: Mapping[str, Derived], removed: frozenset[str]) -> None:
        """Lays `changed` over `base` and hides `removed`."""
        self._base = base
        self._changed = dict(changed)
        self._removed = removed - set(changed)

    def __iter__(self) -> Iterator[str]:
        """All names."""
        yield from (n for n in self._base if n not in self._removed and n not in self._changed)
        yield from self._changed

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight, without computing it."""
        if name in self._changed:
            return self._changed[name].shape
        self._check(name)
        return self._base.shape(name)

    def load(self, name: str) -> Array:
        """Computes or reads one weight."""
        if name in self._changed:
            value = self._changed[name].compute(self._base)
            if value.shape != self._changed[name].shape:
                raise TransformError(
                    f"weight {name!r} came out as {value.shape}, not {self._changed[name].shape}"
                )
            return np.ascontiguousarray(value, dtype=np.float32)
        self._check(name)
        return self._base.load(name)

    def _check(self, name: str) -> None:
        if name in self._removed:
            raise TransformError(f"weight {name!r} was folded away by a transform")


class ResidentWeights:
    """Keeps every weight in memory after its first use: for evaluating many times."""

    def __init__(self, base: Weights) -> None:
        """Reads through to `base`."""
        self._base = base
        self._kept: dict[str, Array] = {}

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._base)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight."""
        return self._base.shape(name)

    def load(self, name: str) -> Array:
        """The kept weight, read on first use."""
        if name not in self._kept:
            self._kept[name] = self._base.load(name)
        return self._kept[name]
