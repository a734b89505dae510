"""Weights seen through a recipe: quantised once each, kept as integers, shared by all emitters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgesdk.errors import TransformError
from edgesdk_converters.checkpoints.stored_blocks import block_type
from edgesdk_converters.graph.weights import (
    Array,
    Weights,
    has_rows,
    load_rows,
    stored_blocks,
    tensor_names,
)
from edgesdk_converters.quantise.all_cores import usable_cores
from edgesdk_converters.quantise.palette_tensor import PaletteTensor, StoredTensor
from edgesdk_converters.quantise.palettise import palettise
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor
from edgesdk_converters.quantise.recipe import Recipe, Scheme
from edgesdk_converters.quantise.round_to_nearest import round_to_nearest
from edgesdk_converters.quantise.sum_by_halves import Sums, sum_by_halves
from edgesdk_converters.quantise.tensor_spool import TensorSpool
from edgesdk_converters.quantise.weight_numbers import digest_floats, digest_stored

_BEYOND_HALF = 65520.0  # from here on, float16 rounds to infinity
_ROWS_AT_ONCE = 4096
_MADE_AT_ONCE = 1 << 22  # 16 MB in float32: smaller arrays than glibc maps anew each time
_SUMMED_AT_ONCE = 1 << 17  # a core's cache holds what is made of them


class QuantisedWeights:
    """A `Weights` whose matrices are what their integers, or indices, stand for.

    Memory: the integers of every weight asked for, one byte each; with a spool those of one.
    """

    def __init__(
        self,
        base: Weights,
        recipe: Recipe,
        precomputed: Mapping[str, StoredTensor] | None = None,
        spool: TensorSpool | None = None,
    ) -> None:
        """Reads float weights from `base`.

        Args:
            base: float weights.
            recipe: how each is quantised.
            precomputed: integers or palettes that calibration has chosen
                (`quantise.calibrate`); every matrix whose algorithm needs data must be there.
            spool: where integers wait; None for memory.
        """
        self._base = base
        self.recipe = recipe
        self._kept: dict[str, StoredTensor] = dict(precomputed or {})
        self._errors: dict[str, float] = {}
        self._digests: dict[str, bytes] = {}
        self._keep = (lambda tensor: tensor) if spool is None else spool.keep

    def __iter__(self) -> Iterator[str]:
        """All names."""
        return iter(self._base)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one weight."""
        return self._base.shape(name)

    def scheme(self, name: str) -> Scheme | None:
        """How a weight is quantised; None if it stays floating point. Vectors always do."""
        return self.recipe.scheme(name) if len(self.shape(name)) == 2 else None

    def quantised(self, name: str) -> QuantisedTensor:
        """Integers and scales of one weight.

        Raises:
            TransformError: the recipe stores a palette, or as for `stored`.
        """
        found = self.stored(name)
        if isinstance(found, PaletteTensor):
            raise TransformError(
                f"recipe {self.recipe.name} stores a palette for {name!r}, which only Core ML takes"
            )
        return found

    def palettised(self, name: str) -> PaletteTensor:
        """Indices and palettes of one weight.

        Raises:
            TransformError: the recipe stores integers, or as for `stored`.
        """
        found = self.stored(name)
        if isinstance(found, QuantisedTensor):
            raise TransformError(f"recipe {self.recipe.name} stores integers for {name!r}, not a palette")
        return found

    def stored(self, name: str) -> StoredTensor:
        """One weight as its recipe stores it.

        Raises:
            TransformError: the recipe leaves it floating point, its block does not divide the row, or
                its algorithm needs calibration and it has had none.
        """
        if name in self._kept:
            return self._kept[name]
        made: StoredTensor
        scheme = self.scheme(name)
        if scheme is None:
            raise TransformError(f"recipe {self.recipe.name} does not quantise {name!r}")
        check_block(self.recipe, name, self.shape(name)[1], scheme)
        if scheme.needs_data:
            without = "palette" if scheme.palette else "clip_search"
            raise TransformError(
                f"recipe {self.recipe.name} quantises {name!r} with calibration data, and got none; "
                f"calibrate first, or use algorithm {without}"
            )
        if scheme.algorithm == "stored":
            made, self._errors[name] = self._blocks(name)
            self._kept[name] = self._keep(made)
        else:
            made, self._errors[name] = self._make(name, scheme)
            self._kept[name] = self._keep(made)
        return self._kept[name]

    def relative_error(self, name: str) -> float:
        """|stored - weight| / |weight| of a weight that the recipe quantises.

        Raises:
            TransformError: as for `stored`.
        """
        stored = self.stored(name)
        if name not in self._errors:
            self._errors[name] = relative_error(self._base.load(name), stored)
        return self._errors[name]

    def _make(self, name: str, scheme: Scheme) -> tuple[StoredTensor, float]:
        """A matrix and its relative error, found while the floats are at hand: making them takes as long.

        Of a large one only so many rows at a time, where each can be made without the others: memory that is
        used again costs less than what the system has to clear first.
        """
        rows, columns = self.shape(name)
        if scheme.palette:
            weight = self._base.load(name)
            palettes = palettise(weight, scheme)
            return palettes, relative_error(weight, palettes)
        blocks = 1 if scheme.block is None else columns // scheme.block
        values, scales = np.empty((rows, columns), np.int8), np.empty((rows, blocks), np.float32)
        made = QuantisedTensor(values, scales, scheme.bits, scheme.block)
        known = None if has_rows(self._base, name) else self._base.load(name)

        def round_rows(start: int, stop: int) -> Sums:
            part = load_rows(self._base, name, start, stop) if known is None else known[start:stop]
            return _round_into(part, scheme, made.rows(start, stop))

        most = _MADE_AT_ONCE if known is None else known.size
        lost = whole = 0.0
        for start in range(0, rows, _ROWS_AT_ONCE):
            span = (start, min(start + _ROWS_AT_ONCE, rows))
            less, all_of_it = sum_by_halves(span, columns, most, round_rows)
            lost, whole = lost + less, whole + all_of_it
        return made, (lost / whole) ** 0.5 if whole else 0.0

    def half_scales(self, name: str) -> bool:
        """Whether the scales of a weight's blocks are float16 numbers; those that are chosen here are."""
        scheme = self.scheme(name)
        if scheme is None or scheme.algorithm != "stored":
            return True
        kind = block_type(self._base, name)
        return kind is None or kind.half_scales

    def _blocks(self, name: str) -> tuple[QuantisedTensor, float]:
        """The file's own blocks, and what was lost of them."""
        blocks = stored_blocks(self._base, name)
        if blocks.minimums is not None:
            raise TransformError(f"the blocks of {name!r} have minimums; split those off first")
        made = QuantisedTensor(blocks.values, blocks.scales, blocks.kind.bits, blocks.kind.block)
        return made, blocks.error

    def load(self, name: str) -> Array:
        """The weight as float32, after quantisation.

        Raises:
            TransformError: float16 is to hold it and cannot, or as for `stored`.
        """
        if self.scheme(name) is not None:
            return self.stored(name).dequantise()
        values = self._base.load(name)
        half = self.recipe.float_type == "float16" and values.ndim == 2
        if half:
            self._require_half(name, values)
        if name not in self._digests:
            # While they are at hand: nothing keeps them, and making them again may take as long as a turn.
            self._digests[name] = digest_floats(values.astype(np.float16) if half else values)
        return values

    def digest(self, name: str) -> bytes:
        """Digest of the numbers that stand for one weight: the same for every target that stores them.

        Raises:
            TransformError: as for `load`.
        """
        if name not in self._digests:
            if self.scheme(name) is None:
                self.load(name)
            else:
                self._digests[name] = digest_stored(self.stored(name))
        return self._digests[name]

    def _require_half(self, name: str, values: Array) -> None:
        largest = float(max(values.max(initial=0), -values.min(initial=0)))
        if not largest < _BEYOND_HALF:  # NaN, too
            tensors = ", ".join(tensor_names(self._base, name)) or name
            raise TransformError(
                f"the weight {name} ({tensors}) holds {largest:.6g}, which is not representable in float16 "
                "(at most 65504); use recipe f32 or w8"
            )


def check_block(recipe: Recipe, name: str, columns: int, scheme: Scheme) -> None:
    """Refuses blocks that do not fit into a row.

    Raises:
        TransformError: the block does not divide the columns.
    """
    if scheme.block is not None and columns % scheme.block:
        raise TransformError(
            f"recipe {recipe.name} needs rows of a multiple of {scheme.block}, but {name!r} has "
            f"{columns} columns; use w8 or w4c"
        )


def relative_error(weight: Array, stored: StoredTensor | None) -> float:
    """|stored - weight| / |weight|, a few rows at a time: embeddings are large.

    Args:
        weight: (O, I) float32.
        stored: what stands for it; None for the nearest float16 numbers.
    """
    lost = whole = 0.0
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = weight[start : start + _ROWS_AT_ONCE]
        kept = None if stored is None else stored.rows(start, start + _ROWS_AT_ONCE)
        less, all_of_it = squares(rows, kept.dequantise() if isinstance(kept, PaletteTensor) else kept)
        lost, whole = lost + less, whole + all_of_it
    return (lost / whole) ** 0.5 if whole else 0.0


def _round_into(weight: Array, scheme: Scheme, made: QuantisedTensor) -> Sums:
    """Rounds rows into the integers and scales of `made`, on all cores; their `squares`."""
    rows, columns = weight.shape

    def some(start: int, stop: int) -> Sums:
        part, rounded = weight[start:stop], made.rows(start, stop)
        found = round_to_nearest(part, scheme)
        rounded.values[...], rounded.scales[...] = found.values, found.scales
        return squares(part, found)

    most = max(_SUMMED_AT_ONCE, weight.size // usable_cores())
    return sum_by_halves((0, rows), columns, most, some, threads=True)


def squares(weight: Array, kept: QuantisedTensor | Array | None) -> Sums:
    """Sums of squares of what is lost of some rows, and of all that they hold.

    Args:
        weight: (O, I) float32, one row behind the other.
        kept: the numbers that stand for them, or their integers; None for the nearest float16 numbers.
    """

    def some(start: int, stop: int) -> Sums:
        rows = weight[start:stop]
        if kept is None:
            numbers = rows.astype(np.float16).astype(np.float32)
        elif isinstance(kept, QuantisedTensor):
            numbers = kept.rows(start, stop).dequantise()
        else:
            numbers = kept[start:stop]
        return _sum_of_squares(numbers - rows), _sum_of_squares(rows)

    rows, columns = weight.shape
    return sum_by_halves((0, rows), columns, _SUMMED_AT_ONCE, some)


def _sum_of_squares(values: Array) -> float:
    wide = values.astype(np.float64)
    return float(np.square(wide, out=wide).sum())
