"""Weights by name, read when they are asked for.

`Weights` is the protocol; `DerivedWeights` lays computed weights over others, which is how transforms
change numbers without holding a model in memory. Nothing here caches: peak memory is what the caller
keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import TransformError
from edgesdk_converters.checkpoints.stored_blocks import BlockStore, BlockType, StoredBlocks, block_type

Array = NDArray[np.float32]


class Weights(Protocol):
    """Named float32 tensors."""

    def __iter__(self) -> Iterator[str]:
        """All names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight, without reading it."""

    def load(self, name: str) -> Array:
        """One weight as float32; the caller may keep it but must not write to it."""


@runtime_checkable
class TypedWeights(Protocol):
    """What weights also are when they know how their file stores them."""

    def stored_type(self, name: str) -> str | None:
        """The file's own type name, e.g. `BF16`; None for what no file has."""


def stored_type(weights: Weights, name: str) -> str | None:
    """`TypedWeights.stored_type` of weights that need not know it."""
    if not isinstance(weights, TypedWeights) or all(name != known for known in weights):
        return None
    return weights.stored_type(name)


@runtime_checkable
class NamedWeights(Protocol):
    """What weights also are when they know the tensors of their file."""

    def tensor_names(self, name: str) -> tuple[str, ...]:
        """Names in the file of what a weight was made of; none for what no file has."""


def tensor_names(weights: Weights, name: str) -> tuple[str, ...]:
    """`NamedWeights.tensor_names` of weights that need not know them."""
    if not isinstance(weights, NamedWeights) or all(name != known for known in weights):
        return ()
    return weights.tensor_names(name)


@runtime_checkable
class RowWeights(Protocol):
    """What weights also are when they can read or compute some rows of a matrix without the others."""

    def has_rows(self, name: str) -> bool:
        """Whether some rows of a weight cost less than all."""

    def load_rows(self, name: str, start: int, stop: int) -> Array:
        """Rows [start, stop) of a weight as float32."""


def has_rows(weights: Weights, name: str) -> bool:
    """`RowWeights.has_rows` of weights that need not be such."""
    return isinstance(weights, RowWeights) and weights.has_rows(name)


def load_rows(weights: Weights, name: str, start: int, stop: int) -> Array:
    """Rows [start, stop) of a weight, whatever they cost."""
    if isinstance(weights, RowWeights) and weights.has_rows(name):
        return weights.load_rows(name, start, stop)
    return weights.load(name)[start:stop]


def stored_blocks(weights: Weights, name: str) -> StoredBlocks:
    """The blocks of a weight.

    Raises:
        TransformError: it has none.
    """
    if block_type(weights, name) is None or not isinstance(weights, BlockStore):
        raise TransformError(f"weight {name!r} does not lie in blocks")
    return weights.stored_blocks(name)


@dataclass(frozen=True)
class Derived:
    """A weight computed from others when it is asked for.

    Attributes:
        shape: of the result.
        compute: gets the weights underneath and returns the result.
        parts: names underneath that it consists of; none means that of its own name.
        kind: how the result lies in blocks, where it still does.
        blocks: gets the weights underneath and returns those blocks; given with `kind`.
        rows: gets the weights underneath, start and stop, and returns those rows; None where a row depends on
            others than those of its parts.
    """

    shape: tuple[int, ...]
    compute: Callable[[Weights], Array]
    parts: tuple[str, ...] = ()
    kind: BlockType | None = None
    blocks: Callable[[Weights], StoredBlocks] | None = None
    rows: Callable[[Weights, int, int], Array] | None = None


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

    def has_rows(self, name: str) -> bool:
        """Whether some rows of a weight cost less than all."""
        if name not in self._changed:
            return name not in self._removed and has_rows(self._base, name)
        derived = self._changed[name]
        return derived.rows is not None and all(has_rows(self._base, n) for n in derived.parts or (name,))

    def load_rows(self, name: str, start: int, stop: int) -> Array:
        """Computes or reads rows [start, stop) of one weight."""
        derived = self._changed.get(name)
        if derived is None:
            self._check(name)
            return load_rows(self._base, name, start, stop)
        if derived.rows is None:
            return self.load(name)[start:stop]
        return np.ascontiguousarray(derived.rows(self._base, start, stop), dtype=np.float32)

    def block_type(self, name: str) -> BlockType | None:
        """How a weight lies in blocks, without computing it; None if it does not."""
        if name in self._changed:
            return self._changed[name].kind
        self._check(name)
        return block_type(self._base, name)

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A weight's blocks.

        Raises:
            TransformError: it has none.
        """
        if name not in self._changed:
            self._check(name)
            return stored_blocks(self._base, name)
        blocks = self._changed[name].blocks
        if blocks is None:
            raise TransformError(f"weight {name!r} does not lie in blocks")
        return blocks(self._base)

    def stored_type(self, name: str) -> str | None:
        """Types of what a weight was made of, as its file names them, joined by `+`."""
        parts = self._changed[name].parts if name in self._changed else ()
        found = [stored_type(self._base, part) for part in parts or (name,)]
        return "+".join(dict.fromkeys(kind for kind in found if kind is not None)) or None

    def tensor_names(self, name: str) -> tuple[str, ...]:
        """Names in the file of what a weight was made of."""
        parts = self._changed[name].parts if name in self._changed else ()
        found = [tensor for part in parts or (name,) for tensor in tensor_names(self._base, part)]
        return tuple(dict.fromkeys(found))

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

    def block_type(self, name: str) -> BlockType | None:
        """How a weight lies in blocks; None if it does not."""
        return block_type(self._base, name)

    def stored_blocks(self, name: str) -> StoredBlocks:
        """A weight's blocks, which are not kept."""
        return stored_blocks(self._base, name)

    def stored_type(self, name: str) -> str | None:
        """The file's own type name, where it is known."""
        return stored_type(self._base, name)

    def tensor_names(self, name: str) -> tuple[str, ...]:
        """Names in the file of what a weight was made of, where they are known."""
        return tensor_names(self._base, name)
