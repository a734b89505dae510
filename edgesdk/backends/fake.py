"""A step backend without a model, shipped for tests of whatever stands above the backends.

It behaves like a transformer in the one respect that the host can get wrong: each layer's keys and
values depend on what the token saw in the layer before, and logits depend on the last layer. But in
place of floating point there are 64-bit hashes, so results are exact: a wrong mask, position, cell,
layer or head changes every later logit beyond recognition, and equal inputs give equal bits
whatever the chunking. `expected_logits` says without masks or cells what must come out.

With a `script` it also says a chosen text: the logits after position p favour `script[p + 1]`. What a
contract has beside the ports of every decoder it reads and gives too: an input of every token changes what
the token is, a mask what it sees, an input of every row its results; an output is a hash of what a row or a
token saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.aligned_array import ALIGNMENT_BYTES
from edgesdk.backends.cell_arrays import check_cells
from edgesdk.backends.protocol import MASKED, Array, Cells, Float, StepBuffers
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.port import NumberType
from edgesdk.bundle.stack_record import RESERVED_PORTS
from edgesdk.bundle.step_contract import StepContract, main_stack
from edgesdk.bundle.step_shape import MAIN, StepShape
from edgesdk.errors import DeviceError

Hash = NDArray[np.uint64]

_BITS = np.uint64(40)
"""64 bits less the 24 that a float32 holds exactly."""

_MOST_CHANNELS = 64
"""Numbers that an input has for each token, at most, unless cells have more."""

SCRIPTED_LEAD = np.float32(8.0)
"""How far the scripted token's logit stands above what the hash gives it, within (-1, 1)."""


class FakeStepBackend:
    """Implements `StepBackend` by hashing what each token sees."""

    def __init__(
        self,
        spec: DecoderSpec,
        shapes: Sequence[StepShape],
        *,
        script: Sequence[int] | None = None,
        contracts: Mapping[str, StepContract] | None = None,
        reads: Mapping[int, int] | None = None,
    ) -> None:
        """Offers `shapes` of the model `spec`.

        Args:
            spec: gives V, the windows, and L, K and D where there are no contracts.
            shapes: sizes on offer.
            script: token ids by position, the prompt's included, that greedy decoding is to follow.
            contracts: of each stack, with float32 cells; None for the main one that the model has.
            reads: which other layer's cells a layer reads that has none of its own.
        """
        self._spec = spec
        self._shapes = tuple(sorted(shapes))
        self._script = None if script is None else np.asarray(script, np.int64)
        self.contracts = main_stack(spec) if contracts is None else contracts
        """What each stack takes and gives."""
        self._reads = {} if reads is None else dict(reads)
        self._arrays = StepArrays(self.contracts, _garbage)
        sizes = [group.heads * group.tail[0] for c in self.contracts.values() for group in c.new]
        count = max(2 * max(sizes), _MOST_CHANNELS)
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
        return self._arrays.buffers(shape)

    def run(self, shape: StepShape, cells: Cells) -> None:
        """Runs one step.

        Raises:
            DeviceError: an input is not what the step graph's contract says.
        """
        contract, b = self.contracts[shape.stack], self.buffers(shape)
        self._check(shape, cells, b)
        self.runs.append(shape)
        places = {
            layer: (group, index)
            for group, members in enumerate(contract.new)
            for index, layer in enumerate(members.layers)
        }
        given = [port for port in contract.inputs if port.name not in RESERVED_PORTS]
        state = _mix(b.tokens.astype(np.uint64) + np.uint64(_number(shape.stack)))
        for port in given:
            if port.dims[0] == "T" and not port.is_mask:
                state = _mix(state ^ _sums(b.extra[port.name], self._channels))
        for layer, spec in enumerate(self._spec.layers):
            mask = b.mask if spec.window is None else b.window_mask
            if mask is None:
                raise DeviceError("a layer has a window, but there is no window mask")
            source = self._reads.get(layer, layer)
            if source not in places:  # a stack that goes without it
                continue
            group, index = places[source]
            new, old = b.kv_new.arrays[group][index], cells.arrays[group][index]
            if layer in places:
                new[...] = self._encode(state, b.positions, layer, new.shape)
            seen = np.concatenate([self._digest(old), self._digest(new)])
            state = _mix(state ^ ((mask == 0).astype(np.uint64) @ seen))
            for port in given:
                if port.is_mask:
                    state = _mix(state ^ ((b.extra[port.name] == 0).astype(np.uint64) @ seen))
        rows = state[b.rows]
        for port in given:
            if port.dims[0] == "R":
                rows = _mix(rows ^ _sums(b.extra[port.name], self._channels))
        b.logits[...] = self._logits(rows, b.positions[b.rows])
        for port in contract.outputs[1:]:
            array = b.extra[port.name]
            array[...] = _numbers(rows if port.dims[0] == "R" else state, port.name, array.shape)

    def close(self) -> None:
        """Remembers that it was closed."""
        self.closed = True

    def expected_logits(self, tokens: Sequence[int], stack: str = MAIN) -> Float:
        """What a sequence of these tokens must give: (n, V) float32, computed token by token."""
        layers = self.contracts[stack].layers
        caches: list[list[Hash]] = [[] for _ in self._spec.layers]
        rows = []
        for position, token in enumerate(tokens):
            state = _mix(np.array([token], np.uint64) + np.uint64(_number(stack)))
            at = np.array([position], np.int32)
            for index, layer in enumerate(self._spec.layers):
                source = self._reads.get(index, index)
                if source not in layers:
                    continue
                if source == index:
                    caches[index].append(
                        self._digest(self._encode(state, at, index, self._plane(index, stack)))
                    )
                start = 0 if layer.window is None else max(0, position + 1 - layer.window)
                state = _mix(state ^ np.concatenate(caches[source][start:]).sum(dtype=np.uint64))
            rows.append(self._logits(state, at)[0])
        return np.array(rows, np.float32)

    def _plane(self, layer: int, stack: str) -> tuple[int, ...]:
        """Shape of what one token leaves in a layer: (2, K, 1, D)."""
        group = next(group for group in self.contracts[stack].new if layer in group.layers)
        return group.shape(1)[1:]

    def _encode(self, state: Hash, positions: NDArray[np.int32], layer: int, shape: tuple[int, ...]) -> Float:
        """Keys and values of tokens in `state`: (2, K, T, D) float32, whole numbers."""
        token = _mix(state + positions.astype(np.uint64) * np.uint64(0x9E37) + np.uint64(layer << 32))
        _, K, T, D = shape
        values = _mix(token[:, None] ^ self._channels[None, : 2 * K * D]) >> _BITS
        return values.astype(np.float32).reshape(T, 2, K, D).transpose(1, 2, 0, 3)

    def _digest(self, kv: Array) -> Hash:
        """One hash per cell of (2, K, n, D)."""
        flat = kv.transpose(2, 0, 1, 3).reshape(kv.shape[2], -1)
        channels = self._channels[: flat.shape[1]]
        return _mix(np.ascontiguousarray(flat).view(np.uint32).astype(np.uint64) @ channels)

    def _logits(self, state: Hash, positions: NDArray[np.int32]) -> Float:
        """(R, V) float32 in (-1, 1), with the scripted token above the rest."""
        values = _mix(state[:, None] ^ self._vocabulary) >> _BITS
        logits = values.astype(np.float32) / np.float32(1 << 23) - np.float32(1)
        if self._script is not None:
            for row, following in enumerate(positions.astype(np.int64) + 1):
                if following < len(self._script):
                    logits[row, self._script[following]] += SCRIPTED_LEAD
        return logits

    def _check(self, shape: StepShape, cells: Cells, b: StepBuffers) -> None:
        spec, T = self._spec, shape.tokens
        check_cells(cells, self.contracts[shape.stack], shape.cells, "the fake backend")
        if any(array.ctypes.data % ALIGNMENT_BYTES for array in cells.arrays):
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


def _garbage(dtype: NumberType, *shape: int) -> Array:
    """What nobody has written: NaN, or -1 among integers."""
    return np.full(shape, np.nan if dtype.startswith("float") else -1, dtype)


def _number(stack: str) -> int:
    """What tells the tokens of a stack from those of the main one, which is 0."""
    return 0 if stack == MAIN else int.from_bytes(stack.encode()[:4], "little")


def _sums(array: Array, channels: Hash) -> Hash:
    """One hash per token of an input (T, ..)."""
    flat = np.ascontiguousarray(array.reshape(len(array), -1)).view(np.uint32).astype(np.uint64)
    return flat @ channels[: flat.shape[1]]


def _numbers(state: Hash, name: str, shape: tuple[int, ...]) -> Float:
    """What a port gives of states (n,): (n, ..) float32 in (0, 1)."""
    count = int(np.prod(shape[1:]))
    channels = _mix(np.arange(1, count + 1, dtype=np.uint64) + np.uint64(_number(name)))
    values = _mix(state[:, None] ^ channels[None]) >> _BITS
    return (values.astype(np.float32) / np.float32(1 << 24)).reshape(shape)
