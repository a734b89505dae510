"""A step backend without a model, shipped for tests of whatever stands above the backends.

It behaves like a transformer in the one respect that the host can get wrong: each layer's keys and
values depend on what the token saw in the layer before, and logits depend on the last layer. But in
place of floating point there are 64-bit hashes, so results are exact: a wrong mask, position, cell,
layer or head changes every later logit beyond recognition, and equal inputs give equal bits
whatever the chunking. `expected_logits` says without masks or cells what must come out.

With a `script` it also says a chosen text: the logits after position p favour `script[p + 1]`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.protocol import MASKED, Cells, Float, StepBuffers, float_cells
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import CellType, StepShape
from edgesdk.errors import DeviceError

Hash = NDArray[np.uint64]

_BITS = np.uint64(40)
"""64 bits less the 24 that a float32 holds exactly."""

SCRIPTED_LEAD = np.float32(8.0)
"""How far the scripted token's logit stands above what the hash gives it, within (-1, 1)."""


class FakeStepBackend:
    """Implements `StepBackend` by hashing what each token sees."""

    cell_type: CellType = "float32"

    def __init__(
        self, spec: DecoderSpec, shapes: Sequence[StepShape], *, script: Sequence[int] | None = None
    ) -> None:
        """Offers `shapes` of the model `spec`.

        Args:
            spec: gives L, K, D, V and the windows.
            shapes: sizes on offer.
            script: token ids by position, the prompt's included, that greedy decoding is to follow.
        """
        self._spec = spec
        self._shapes = tuple(sorted(shapes))
        self._script = None if script is None else np.asarray(script, np.int64)
        self._buffers: dict[StepShape, StepBuffers] = {}
        count = 2 * spec.kv_heads * spec.head_size
        self._channels = _mix(np.arange(1, count + 1, dtype=np.uint64)) | np.uint64(1)
        self._vocabulary = _mix(np.arange(1, spec.vocab_size + 1, dtype=np.uint64))
        self.runs: list[StepShape] = []
        """The sizes that were run, in order."""
        self.closed = False
        """Whether `close` was called."""

    @property
    def shapes(self) -> tuple[StepShape, ...]:
        """Sizes on offer, smallest first."""
        return self._shapes

    def buffers(self, shape: StepShape) -> StepBuffers:
        """The arrays of one size; the mask starts as garbage, as a real backend's may."""
        if shape not in self._buffers:
            spec, (T, S, R) = self._spec, (shape.tokens, shape.cells, shape.rows)
            self._buffers[shape] = StepBuffers(
                tokens=np.full(T, -1, np.int32),
                positions=np.full(T, -1, np.int32),
                mask=np.full((T, S + T), np.nan, np.float32),
                window_mask=None if spec.window is None else np.full((T, S + T), np.nan, np.float32),
                rows=np.full(R, -1, np.int32),
                logits=np.empty((R, spec.vocab_size), np.float32),
                kv_new=np.empty((len(spec.layers), 2, spec.kv_heads, T, spec.head_size), np.float32),
            )
        return self._buffers[shape]

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step.

        Raises:
            DeviceError: an input is not what the step graph's contract says.
        """
        cells = float_cells(cells, "the fake backend")
        b = self.buffers(shape)
        self._check(shape, cells, b)
        self.runs.append(shape)
        state = _mix(b.tokens.astype(np.uint64))
        for index, layer in enumerate(self._spec.layers):
            mask = b.mask if layer.window is None else b.window_mask
            if mask is None:
                raise DeviceError("a layer has a window, but there is no window mask")
            b.kv_new[index] = self._encode(state, b.positions, index)
            seen = np.concatenate([self._digest(cells[index]), self._digest(b.kv_new[index])])
            state = _mix(state ^ ((mask == 0).astype(np.uint64) @ seen))
        b.logits[...] = self._logits(state[b.rows], b.positions[b.rows])

    def close(self) -> None:
        """Remembers that it was closed."""
        self.closed = True

    def expected_logits(self, tokens: Sequence[int]) -> Float:
        """What a sequence of these tokens must give: (n, V) float32, computed token by token."""
        caches: list[list[Hash]] = [[] for _ in self._spec.layers]
        rows = []
        for position, token in enumerate(tokens):
            state = _mix(np.array([token], np.uint64))
            at = np.array([position], np.int32)
            for index, layer in enumerate(self._spec.layers):
                caches[index].append(self._digest(self._encode(state, at, index)))
                start = 0 if layer.window is None else max(0, position + 1 - layer.window)
                state = _mix(state ^ np.concatenate(caches[index][start:]).sum(dtype=np.uint64))
            rows.append(self._logits(state, at)[0])
        return np.array(rows, np.float32)

    def _encode(self, state: Hash, positions: NDArray[np.int32], layer: int) -> Float:
        """Keys and values of tokens in `state`: (2, K, T, D) float32, whole numbers."""
        token = _mix(state + positions.astype(np.uint64) * np.uint64(0x9E37) + np.uint64(layer << 32))
        values = _mix(token[:, None] ^ self._channels[None, :]) >> _BITS
        T, K, D = len(token), self._spec.kv_heads, self._spec.head_size
        return values.astype(np.float32).reshape(T, 2, K, D).transpose(1, 2, 0, 3)

    def _digest(self, kv: Float) -> Hash:
        """One hash per cell of (2, K, n, D)."""
        flat = kv.transpose(2, 0, 1, 3).reshape(kv.shape[2], -1)
        return _mix(np.ascontiguousarray(flat).view(np.uint32).astype(np.uint64) @ self._channels)

    def _logits(self, state: Hash, positions: NDArray[np.int32]) -> Float:
        """(R, V) float32 in (-1, 1), with the scripted token above the rest."""
        values = _mix(state[:, None] ^ self._vocabulary) >> _BITS
        logits = values.astype(np.float32) / np.float32(1 << 23) - np.float32(1)
        if self._script is not None:
            for row, following in enumerate(positions.astype(np.int64) + 1):
                if following < len(self._script):
                    logits[row, self._script[following]] += SCRIPTED_LEAD
        return logits

    def _check(self, shape: StepShape, cells: Float, b: StepBuffers) -> None:
        spec, (T, S) = self._spec, (shape.tokens, shape.cells)
        expected = (len(spec.layers), 2, spec.kv_heads, S, spec.head_size)
        if cells.shape != expected or cells.dtype != np.float32 or not cells.flags.c_contiguous:
            raise DeviceError(
                f"cells are {cells.dtype} {cells.shape}, expected contiguous float32 {expected}"
            )
        if cells.ctypes.data % ALIGNMENT_BYTES:
            raise DeviceError(f"cells are not aligned to {ALIGNMENT_BYTES} bytes")
        if not ((b.tokens >= 0) & (b.tokens < spec.vocab_size)).all():
            raise DeviceError(f"token ids outside the vocabulary of {spec.vocab_size}: {b.tokens.tolist()}")
        if not ((b.positions >= 0) & (b.positions < spec.context)).all():
            raise DeviceError(f"positions outside the context of {spec.context}: {b.positions.tolist()}")
        if not ((b.rows >= 0) & (b.rows < T)).all():
            raise DeviceError(f"rows outside the {T} tokens: {b.rows.tolist()}")
        for mask in (b.mask, b.window_mask):
            if mask is not None and not ((mask == 0) | (mask == MASKED)).all():
                raise DeviceError("a mask holds values other than 0 and MASKED")


def _mix(x: Hash) -> Hash:
    """The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators)."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
