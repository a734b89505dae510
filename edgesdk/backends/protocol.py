"""The two seams between the runtime and whatever executes a model.

`StepBackend` runs the step graph of docs/architecture.md: a pure function of tokens, positions,
masks and cells. The host owns the cells, so everything above it (sequences, batching, speculation)
is the same for every backend of this kind.

`SequenceBackend` makes `TokenSequence`s, each of which holds tokens with their cached state. Backends whose
cache cannot leave the device (ONNX `resident`, onnxruntime-genai, Core ML with states) implement it directly;
`edgesdk.kv.step_model` implements it over any `StepBackend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import StepContract

Float = NDArray[np.float32]
Float16 = NDArray[np.float16]
Int = NDArray[np.int32]
Int8 = NDArray[np.int8]
Array = Float | Float16 | Int | Int8

Walk = Callable[[Float], Sequence[int]]
"""Looks at (1 + d, V) logits, after the last token and after each of d drafted ones, and says which drafts
are kept: indices, the first follows the last token, each other the one before it. In the backend's turn."""

Between = Callable[[], None]
"""Looks, between two pieces of a prompt, whether to go on; raises if not."""

MASKED = np.float32(-1e9)
"""Additive mask value of what may not be seen: finite, so that a row without any visible cell gives
numbers instead of NaN, and beyond any score that float32 attention produces."""


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Cells:
    """Keys and values of cells, or of new tokens: an array for each of a contract's groups, in order.

    Attributes:
        arrays: each (layers, sides, K, S, *tail), as `CellGroup.shape` says.
    """

    arrays: tuple[Array, ...]

    @property
    def count(self) -> int:
        """S: cells, or tokens where they are new."""
        size: int = self.arrays[0].shape[3] if self.arrays else 0
        return size

    @property
    def cell_type(self) -> str:
        """How they are stored: what the numbers of the first array are."""
        return self.arrays[0].dtype.name if self.arrays else "float32"

    def take(self, which: Int | slice | int) -> Cells:
        """Some of the S, without that axis for one: views where the arrays allow it."""
        return Cells(tuple([array[:, :, :, which] for array in self.arrays]))

    def copy(self) -> Cells:
        """The same numbers in contiguous arrays of their own."""
        return Cells(tuple([array.copy() for array in self.arrays]))


NO_CELLS = Cells(())
"""Of a stack without cells."""


@dataclass(frozen=True)
class StepBuffers:
    """Arrays of one step size. The caller fills the inputs, runs, and reads the outputs in place.

    They belong to the backend and keep their address; outputs are overwritten by the next run. Sizes of equal
    T and S may share inputs, whatever their stack. What a stack is without is empty: positions, masks and
    rows without cells, tokens where it reads a stream, logits where it has no head.

    Attributes:
        tokens: (T,) int32.
        positions: (T,) int32, rotary position of each token.
        mask: (T, S+T) float32, additive; columns are the S cells, then the T new tokens; (T, T) where tokens
            see the whole text.
        window_mask: the same for layers with a sliding window; None for models without one.
        rows: (R,) int32, indices into the T tokens whose logits are wanted.
        logits: (R, V) float32, output.
        kv_new: output: keys (0) and values (1) of the new tokens, (L, 2, K, T, D) for each kind of layer;
            float32, but float16 where cells are.
        extra: what the stack takes and gives beside these, by port: outputs of every row (R, ..) or of every
            token (T, ..), and inputs.
    """

    tokens: Int
    positions: Int
    mask: Float
    window_mask: Float | None
    rows: Int
    logits: Float
    kv_new: Cells
    extra: Mapping[str, Array] = field(default_factory=dict)

    def port(self, name: str) -> Array:
        """The array of an input or output, by the name of its port."""
        found = self.extra.get(name)
        if found is None:
            found = getattr(self, name)
        return cast(Array, found)


class StepBackend(Protocol):
    """Executes the step graph in the sizes that a variant offers."""

    @property
    def contracts(self) -> Mapping[str, StepContract]:
        """What each stack takes and gives, and how its cells are stored; the main one is always there."""

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first, those of every stack."""

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size."""

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step on what `buffers(shape)` holds.

        Args:
            shape: one of `shapes`.
            cells: for the groups of the stack's contract, with S cells, C-contiguous and 64-byte aligned;
                read, never written.
        """

    def close(self) -> None:
        """Releases the model."""


class TokenSequence(Protocol):
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
class JudgingSequence(Protocol):
    """What a `TokenSequence` has besides where its backend runs trees of drafted tokens."""

    def most_drafts(self, tokens: int) -> int:
        """Most drafted tokens that a step judges beside so many others; 0 for none."""

    def judge(self, tokens: Int, drafted: Int, parents: Int, walk: Walk, streams: Int | None = None) -> None:
        """Appends tokens, and those of the drafted ones that `walk` keeps.

        Args:
            tokens: (n,) int32, n at least 1.
            drafted: (d,) int32, d at least 1: tokens that may follow.
            parents: (d,) int32, for each drafted token the one that it follows, which comes before it; -1 for
                those that follow the last of `tokens`.
            walk: what it raises leaves `tokens` appended and nothing else.
            streams: (d,) int32, the numbers of those that are streams (`decoding.draft.Draft`), 0 for tokens.

        Raises:
            CapacityError: they do not fit; nothing has changed.
        """


@runtime_checkable
class GatedSequence(Protocol):
    """What a `TokenSequence` has besides where its file may hold adapters."""

    def use_gates(self, gates: Gates) -> None:
        """Has the tokens of an empty sequence run with these factors from now on."""


@runtime_checkable
class StatedSequence(Protocol):
    """What a `TokenSequence` has besides where its backend gives what the head reads."""

    @property
    def hidden(self) -> Float | None:
        """(E,) in the row whose logits choose the first token after those that it holds; None where that is
        not known."""


@runtime_checkable
class SequenceBackend(Protocol):
    """Makes sequences of one opened variant, wherever their cells lie: with the host, or with the backend."""

    def new_sequence(self) -> TokenSequence:
        """An empty sequence."""

    def close(self) -> None:
        """Releases the model."""
