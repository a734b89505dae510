"""One input or output of a step, as data: its name, its dimensions in the letters of a step, its numbers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from edgesdk.bundle.step_shape import StepShape
from edgesdk.errors import quoted

Letter = Literal["T", "S", "R", "S+T"]
Dim = int | Letter
"""A dimension: fixed, or T new tokens, S cells, R rows, or cells and new tokens together."""

NumberType = Literal["float32", "float16", "int32", "int8"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MOST_DIMS = 4
LARGEST_SIZE = 1 << 24
"""Largest size of a model, and of what a port has for a token or a row: far above any that there is."""


@dataclass(frozen=True)
class Port:
    """An input or an output of a step.

    Attributes:
        name: as hosts and files know it, an identifier in lower case.
        dims: its shape. The first says whose it is: T of the tokens, R of the rows, S of the cells; of a
            mask the last is S+T.
        dtype: its numbers.
    """

    name: str
    dims: tuple[Dim, ...]
    dtype: NumberType = "float32"

    def __post_init__(self) -> None:
        """Refuses what no file of a bundle has.

        Raises:
            ValueError: saying what; readers turn it into their own error.
        """
        if not is_port_name(self.name):
            raise ValueError(f"{self.name[:60]!r} names no port, expected an identifier in lower case")
        if not 1 <= len(self.dims) <= _MOST_DIMS:
            raise ValueError(
                f"port {self.name!r} has {len(self.dims)} dimensions, expected 1 to {_MOST_DIMS}"
            )
        for size in self.dims:
            fits = 1 <= size <= LARGEST_SIZE if isinstance(size, int) else size in get_args(Letter)
            if not fits:
                raise ValueError(
                    f"port {self.name!r} has the dimension {quoted(size)}, expected T, S, R, S+T or a size"
                )
        if math.prod(size for size in self.dims if isinstance(size, int)) > LARGEST_SIZE:
            raise ValueError(
                f"port {self.name!r} has the shape {self.dims}, expected at most {LARGEST_SIZE} numbers a row"
            )
        if "S+T" in self.dims and self.dims != ("T", "S+T"):
            raise ValueError(f"port {self.name!r} has the shape {self.dims}, expected (T, S+T) of a mask")

    @property
    def is_mask(self) -> bool:
        """Whether it says which token sees which cell and which new token."""
        return self.dims[-1] == "S+T"

    def shape(self, step: StepShape) -> tuple[int, ...]:
        """Its shape in one size of the step."""
        return shape_of(self.dims, step)


def is_port_name(text: str) -> bool:
    """Whether ports and stacks may be called so: an identifier in lower case."""
    return _NAME.fullmatch(text) is not None


def shape_of(dims: tuple[Dim, ...], step: StepShape) -> tuple[int, ...]:
    """Dimensions in one size of the step."""
    letters = {"T": step.tokens, "S": step.cells, "R": step.rows, "S+T": step.cells + step.tokens}
    return tuple(size if isinstance(size, int) else letters[size] for size in dims)
