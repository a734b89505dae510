"""The two seams between the runtime and whatever executes a model.

`StepBackend` runs the step graph of docs/architecture.md: a pure function of tokens, positions,
masks and cells. The host owns the cells, so everything above it (sequences, batching, speculation)
is the same for every backend of this kind.

`Sequence` is one sequence of tokens with its cached state. Backends whose cache cannot leave the
device (ONNX `resident`, onnxruntime-genai) implement it directly; `edgesdk.kv.cell_sequence`
implements it over any `StepBackend`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

Float = NDArray[np.float32]
Float16 = NDArray[np.float16]
Int = NDArray[np.int32]
Int8 = NDArray[np.int8]

Between = Callable[[], None]
"""Looks, between two pieces of a prompt, whether to go on; raises if not."""

MASKED = np.float32(-1e9)
"""Additive mask value of what may not be seen: finite, so that a row without any visible cell gives
numbers instead of NaN, and beyond any score that float32 attention produces."""


@dataclass(frozen=True, eq=False, slots=True)
class Int8Cells:
    """Keys and values as integers with scales: `values * scales[..., None]` is what they stand for.

    Attributes:
        values: (L, 2, K, S, D) int8.
        scales: (L, 2, K, S) float32, one for each key and each value of a head.
    """

    values: Int8
    scales: Float

    def take(self, which: Int | slice) -> Int8Cells:
        """Some of the S cells."""
        return Int8Cells(self.values[:, :, :, which], self.scales[:, :, :, which])


Cells = Float | Float16 | Int8Cells
"""Cells as a pool holds them: (L, 2, K, S, D) float32 or float16, or int8 with scales."""


def float_cells(cells: Cells, backend: str) -> Float:
    """The cells of a backend that knows no others.

    Raises:
        DeviceError: they are float16 or int8.
    """
    if isinstance(cells, Int8Cells) or cells.dtype == np.float16:
        raise DeviceError(f"{backend} reads cells in float32 only, found {type_of_cells(cells)}")
    return cast(Float, cells)


def type_of_cells(cells: Cells) -> CellType:
    """How cells are stored."""
    if isinstance(cells, Int8Cells):
        return "int8"
    return "float16" if cells.dtype == np.float16 else "float32"


@dataclass(frozen=True)
class StepBuffers:
    """Arrays of one step size. The caller fills the inputs, runs, and reads the outputs in place.

    They belong to the backend and keep their address; outputs are overwritten by the next run.

    Attributes:
        tokens: (T,) int32.
        positions: (T,) int32, rotary position of each token.
        mask: (T, S+T) float32, additive; columns are the S cells, then the T new tokens.
        window_mask: the same for layers with a sliding window; None for models without one.
        rows: (R,) int32, indices into the T tokens whose logits are wanted.
        logits: (R, V) float32, output.
        kv_new: (L, 2, K, T, D) float32, output: keys (0) and values (1) of the new tokens; float16 where
            cells are.
    """

    tokens: Int
    positions: Int
    mask: Float
    window_mask: Float | None
    rows: Int
    logits: Float
    kv_new: Float | Float16


class StepBackend(Protocol):
    """Executes the step graph in the sizes that a variant offers."""

    @property
    def cell_type(self) -> CellType:
        """How the cells that it reads are stored."""

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: of `cell_type`, for S cells, C-contiguous and 64-byte aligned; read, never written.
        """

    def close(self) -> None:
        """Releases the model."""


class Sequence(Protocol):
    """One sequence of tokens and its cached state."""

    @property
    def context(self) -> int:
        """Most tokens it can hold."""

    @property
    def length(self) -> int:
        """Tokens it holds."""

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.
            between: called before each piece but the first, where the tokens are run in several; what it
                raises ends the call, and the sequence then holds some of the tokens: shorten or close it.

        Returns:
            (V,) float32 logits after the last of them; valid until the next call.

        Raises:
            CapacityError: they do not fit; nothing has changed.
        """

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32."""

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on."""

    def close(self) -> None:
        """Releases the cache."""


@runtime_checkable
class LoadedBackend(Protocol):
    """A variant opened by a backend that keeps its own cache."""

    def new_sequence(self) -> Sequence:
        """An empty sequence."""

    def close(self) -> None:
        """Releases the model."""
