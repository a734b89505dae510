"""Safetensors whose linear layers are packed in groups of 4 bits, seen as the weights that they mean.

`NAME.weight` stands for `NAME.qweight`, `NAME.qzeros` and `NAME.scales` (AWQ, GPTQ) or for `NAME.weight`,
`NAME.scales` and `NAME.biases` (MLX). Where groups are runs of columns and their scales are float16 numbers,
they are blocks, which a recipe may keep; GPTQ's groups in order of activation are read as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError
from edgesdk_converters.checkpoints import packed_int4
from edgesdk_converters.checkpoints.packing import Packing
from edgesdk_converters.checkpoints.require_finite import require_finite
from edgesdk_converters.checkpoints.safetensors_file import SafetensorsTensors
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

_PARTS = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"),
    "mlx": ("weight", "scales", "biases"),
}


class PackedTensors:
    """Implements `TensorStore` and `BlockStore`."""

    def __init__(self, base: SafetensorsTensors, packing: Packing) -> None:
        """Finds the packed layers of `base` and checks their shapes; reads nothing.

        Raises:
            CheckpointError: a layer's parts are missing or do not fit each other.
        """
        self._base, self._packing = base, packing
        mark = ".scales" if packing.method == "mlx" else ".qweight"
        stems = [name.removesuffix(mark) for name in base if name.endswith(mark)]
        self._packed = {f"{stem}.weight": stem for stem in stems}
        self._parts = {f"{stem}.{part}" for stem in stems for part in _PARTS[packing.method]}
        self._kinds: dict[str, BlockType | None] = {}
        self._decoded: tuple[str, NDArray[np.float32]] | None = None  # whose rows were asked for last
        self._shapes = {name: self._check(stem) for name, stem in self._packed.items()}

    def __iter__(self) -> Iterator[str]:
        """Names, packed layers last."""
        yield from (name for name in self._base if name not in self._parts)
        yield from self._packed

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._packed or (name in self._base and name not in self._parts)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order: (O, I) of a packed layer."""
        return self._shapes[name] if name in self._packed else self._base.shape(name)

    def stored_type(self, name: str) -> str:
        """The safetensors type, or the packing's name."""
        return self._packing.method.upper() if name in self._packed else self._base.stored_type(name)

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        if name not in self._packed:
            return self._base.load(name)
        order = self._group_of(self._packed[name])
        if order is None:
            return self._decode(name).dequantise()
        return self._load_unordered(name, order)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        if name not in self._packed:
            return self._base.load_rows(name, start, stop)
        if not 0 <= start <= stop <= self._shapes[name][0]:
            raise CheckpointError(
                f"rows {start} to {stop} of {name!r} lie outside its shape {self._shapes[name]}"
            )
        decoded = self._decoded
        if decoded is None or decoded[0] != name:
            self._decoded = decoded = None  # before another is made
            self._decoded = decoded = (name, self.load(name))
        rows = decoded[1][start:stop].copy()
        if stop == self._shapes[name][0]:
            self._decoded = None
        return rows

    def block_type(self, name: str) -> BlockType | None:
        """How a packed layer lies in blocks, from its scales and zeros; None if it does not."""
        if name not in self._packed:
            return None
        if name not in self._kinds:
            stem = self._packed[name]
            scales = self._scales(stem)
            with np.errstate(over="ignore"):
                half = np.array_equal(scales, scales.astype(np.float16).astype(np.float32))
            known = half and self._group_of(stem) is None
            self._kinds[name] = self._kind(name) if known else None
        return self._kinds[name]

    def stored_blocks(self, name: str) -> StoredBlocks:
        """The blocks of a packed layer.

        Raises:
            CheckpointError: it has none, or scales that are not finite.
        """
        if self.block_type(name) is None:
            raise CheckpointError(f"the checkpoint does not store {name!r} in blocks")
        return self._decode(name)

    def _check(self, stem: str) -> tuple[int, int]:
        """(O, I) of a packed layer."""
        method, base = self._packing.method, self._base
        needed = [part for part in _PARTS[method] if part != "g_idx"]
        for part in needed:
            if f"{stem}.{part}" not in base:
                raise CheckpointError(f"the tensor {f'{stem}.{part}'!r} is missing beside {stem}.{needed[0]}")
        words, scales = base.shape(f"{stem}.{needed[0]}"), base.shape(f"{stem}.scales")
        if len(words) != 2 or len(scales) != 2:
            raise self._misfit(stem)
        if method == "mlx":
            shape, groups, rest = (words[0], words[1] * packed_int4.PER_WORD), scales[1], scales[0]
            other, expected = base.shape(f"{stem}.biases"), scales
        else:
            along, across = (1, packed_int4.PER_WORD) if method == "gptq" else (packed_int4.PER_WORD, 1)
            shape, groups, rest = (words[1] * along, words[0] * across), scales[0], scales[1]
            other, expected = base.shape(f"{stem}.qzeros"), (groups, shape[0] // packed_int4.PER_WORD)
        group = shape[1] if self._packing.group == -1 else self._packing.group
        empty = min(*shape, groups) < 1
        if empty or rest != shape[0] or groups * group != shape[1] or other != expected:
            raise self._misfit(stem)
        if method == "gptq" and base.shape_of(f"{stem}.g_idx") not in (None, (shape[1],)):
            raise self._misfit(stem)
        return shape

    def _misfit(self, stem: str) -> CheckpointError:
        shapes = {part: self._base.shape_of(f"{stem}.{part}") for part in _PARTS[self._packing.method]}
        told = ", ".join(f"{part} {shape}" for part, shape in shapes.items())
        return CheckpointError(
            f"the parts of {stem[:200]!r} do not fit {self._packing}: {told}; the checkpoint is damaged"
        )

    def _group_of(self, stem: str) -> NDArray[np.int64] | None:
        """The group of every column: (I,) int64; None where groups are runs of columns."""
        name, shape = f"{stem}.g_idx", self._shapes[f"{stem}.weight"]
        if self._packing.method != "gptq" or name not in self._base:
            return None
        groups = self._base.load_integers(name).astype(np.int64)
        count = self._base.shape(f"{stem}.scales")[0]
        if np.array_equal(groups, np.arange(shape[1]) // (shape[1] // count)):
            return None
        if groups.min() < 0 or groups.max() >= count:
            raise self._misfit(stem)
        return groups

    def _scales(self, stem: str) -> NDArray[np.float32]:
        return self._base.load(f"{stem}.scales")

    def _zeros(self, stem: str) -> NDArray[np.int16]:
        words = self._base.load_integers(f"{stem}.qzeros").view(np.uint32)
        if self._packing.method == "awq":
            return packed_int4.awq_zeros(words)
        return packed_int4.gptq_zeros(words, less_one=self._packing.zeros_less_one)

    def _kind(self, name: str) -> BlockType:
        stem, method = self._packed[name], self._packing.method
        minimums = method == "mlx" or bool((self._zeros(stem) != packed_int4.MIDDLE).any())
        group = self._shapes[name][1] if self._packing.group == -1 else self._packing.group
        with np.errstate(over="ignore"):
            positive = not minimums and bool((self._scales(stem).astype(np.float16) > 0).all())
        return BlockType(method.upper(), 4, group, minimums, positive_scales=positive)

    def _decode(self, name: str) -> StoredBlocks:
        stem, method = self._packed[name], self._packing.method
        scales, kind = self._scales(stem), self._kind(name)
        words = self._base.load_integers(f"{stem}.{_PARTS[method][0]}").view(np.uint32)
        if method == "mlx":
            return packed_int4.decode_mlx(words, scales, self._base.load(f"{stem}.biases"), kind)
        if method == "awq":
            return packed_int4.decode_awq(words, self._zeros(stem), scales, kind)
        return packed_int4.decode_gptq(words, self._zeros(stem), scales, kind)

    def _load_unordered(self, name: str, group_of: NDArray[np.int64]) -> NDArray[np.float32]:
        """A layer whose columns belong to groups in no order."""
        stem = self._packed[name]
        blocks = self._decode(name)
        offset = (packed_int4.MIDDLE - self._zeros(stem)).astype(np.float32)  # (G, O)
        values = (blocks.values.astype(np.float32) + offset[group_of].T) * self._scales(stem)[group_of].T
        require_finite(values, stem, name)
        return values
