"""Finds the grid of 4 bits on which floating point numbers lie, where they do.

Training for 4 bits ends in checkpoints of float numbers that are `d q`, for an integer q of -8 to 7 and a
scale d for each run of columns, rounded to the file's type. What is found is exact: `d q` rounded to
that type are the file's own numbers, bit for bit. A scale is any number for which that holds, one of float16
if there is such. Grids with a minimum, and those of 8 bits, are not looked for. It knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int8]

FLOAT_TYPES = ("BF16", "F16", "F32")
"""Types that are understood, by the names of safetensors and GGUF."""
_LOWEST = 8  # -8 to 7: where a group needs it, all that have it are of one sign
_SMALLEST_NORMAL_HALF, _HALF_STEP = np.float32(2.0**-14), np.float32(2.0**-25)


@dataclass(frozen=True)
class Lattice:
    """Groups on their grids.

    Attributes:
        values: (N, B) int8, -8 to 7.
        scales: (N,) float32, of either sign; 1 for a group of zeros.
    """

    values: Integers
    scales: Floats

    @property
    def half_scales(self) -> bool:
        """Whether every scale is a float16 number."""
        with np.errstate(over="ignore"):
            return bool((self.scales == self.scales.astype(np.float16)).all())

    @property
    def lowest(self) -> bool:
        """Whether an integer is -8."""
        return bool((self.values == -_LOWEST).any())

    @property
    def positive_scales(self) -> bool:
        """Whether every scale is above zero, also as a float16 number."""
        with np.errstate(over="ignore"):
            return bool((self.scales.astype(np.float16) > 0).all())


def find_lattice(groups: Floats, kind: str, *, lowest_first: bool) -> Lattice | None:
    """The grid of every group; None unless each has one.

    Args:
        groups: (N, B) float32, numbers of type `kind`, all finite.
        kind: one of `FLOAT_TYPES`.
        lowest_first: where several grids fit a group, the one whose largest integer is -8, as Q4_0 has it;
            if not, -8 comes last, and scales are positive where they can be.
    """
    orders = (_LOWEST, *range(_LOWEST - 1, 0, -1)) if lowest_first else (*range(_LOWEST - 1, 0, -1), _LOWEST)
    values = np.zeros(groups.shape, np.int8)
    scales = np.ones(len(groups), np.float32)
    left = np.flatnonzero(groups.any(axis=1))
    for most in orders:
        if not len(left):
            break
        found, d, fits = _fit(groups[left], kind, most)
        values[left[fits]], scales[left[fits]] = found[fits], d[fits]
        left = left[~fits]
    return None if len(left) else Lattice(values, scales)


def _fit(groups: Floats, kind: str, most: int) -> tuple[Integers, Floats, NDArray[np.bool_]]:
    """Integers, scales and whether they fit, of groups whose largest integer is `most` in magnitude."""
    size = np.abs(groups)
    with np.errstate(all="ignore"):  # numbers next to nothing fit no grid
        count = np.rint(size * (np.float32(most) / size.max(axis=1, keepdims=True)))
        scales, fits = _find_scales(size, count, kind)
        values = np.copysign(count, groups).astype(np.int8)
    if most == _LOWEST:
        up = (values == _LOWEST).any(axis=1)
        fits &= up != (values == -_LOWEST).any(axis=1)
        values[up] = -values[up]
        scales[up] = -scales[up]
    return values, scales, fits


def _find_scales(size: Floats, count: Floats, kind: str) -> tuple[Floats, NDArray[np.bool_]]:
    """Scales (N,) with which counts (N, B) are the numbers, and where there are such."""
    low, high = _bounds(size, kind)
    there = count > 0
    least = np.where(there, low / count, 0).max(axis=1)
    greatest = np.where(there, high / count, np.inf).min(axis=1)
    middle = (least + greatest) / 2
    scales = middle.astype(np.float16).astype(np.float32)
    fits = _is_rounded(scales, count, size, kind)
    # An end of the interval may belong to it or not, by the last bit of what is rounded.
    for other in (least.astype(np.float16), greatest.astype(np.float16), middle):
        left = np.flatnonzero(~fits & (least <= greatest))
        if not len(left):
            break
        tried = other[left].astype(np.float32)
        scales[left], fits[left] = tried, _is_rounded(tried, count[left], size[left], kind)
    return scales, fits


def _is_rounded(scales: Floats, count: Floats, size: Floats, kind: str) -> NDArray[np.bool_]:
    """Whether the products are the numbers, group by group: (N,)."""
    same: NDArray[np.bool_] = (_ROUND[kind](count * scales[:, None]) == size).all(axis=1)
    return same


def _bounds(size: Floats, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is rounded to each of some numbers above zero: halfway to the next smaller, to the next larger."""
    if kind == "F32":
        nearest = np.nextafter(size, np.float32(0)), np.nextafter(size, np.float32(np.inf))
        low, high = (size / 2 + n.astype(np.float64) / 2 for n in nearest)
        return low, high
    # Halfway between neighbours of a type of 16 bits is a float32 number, so many of its own steps away.
    steps = np.uint32(1 << 15 if kind == "BF16" else 1 << 12)
    bits = size.view(np.uint32)
    lower, upper = (bits - np.minimum(bits, steps)).view(np.float32), (bits + steps).view(np.float32)
    if kind == "F16":
        fine = size < _SMALLEST_NORMAL_HALF
        lower, upper = np.where(fine, size - _HALF_STEP, lower), np.where(fine, size + _HALF_STEP, upper)
    return lower, upper


_ROUND: dict[str, Callable[[Floats], Floats]] = {
    "BF16": lambda values: values.astype(ml_dtypes.bfloat16).astype(np.float32),
    "F16": lambda values: values.astype(np.float16).astype(np.float32),
    "F32": lambda values: values,
}
