"""A Core ML package that keeps keys and values in states of its own, as a model that makes sequences.

The layout `state` of the emitter: `start` says into which cell the first new token goes, the mask is
(T, S) over cells that include the new tokens, `logits` is the only output. Whatever a step writes beyond
its tokens (padding) or beyond what is kept (forgotten tokens) stays masked until it is written again, so
forgetting costs nothing; cells cannot be shared, forked or read. It does not know what runs the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.coreml.mil_program import Array, TensorType
from edgesdk.backends.coreml.step_backend import LOWEST_MASK
from edgesdk.backends.protocol import Between, Float, Int
from edgesdk.backends.sequence_room import SEQUENCE_CLOSED, check_room, check_tokens
from edgesdk.backends.turns import CLOSED, Turns
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import coreml_tensors
from edgesdk.errors import CapacityError, DeviceError

Predict = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
"""Outputs of a function for its inputs, over states that calls share."""


class StatePredictor(Protocol):
    """Runs the functions of one package over states."""

    def inputs(self, function: str) -> Mapping[str, TensorType]:
        """Types of a function's inputs, states among them."""

    def start(self, function: str) -> Predict:
        """Zeroed states, and what runs any function of the package over them.

        Args:
            function: one that has all states.
        """


class CoreMLStateModel:
    """A stateful package; implements `SequenceBackend`."""

    def __init__(
        self, predictor: StatePredictor, spec: DecoderSpec, shapes: tuple[StepShape, ...], context: int
    ) -> None:
        """Checks that the package has the inputs and states that the manifest promises.

        Args:
            predictor: runs the package.
            spec: shape of the decoder.
            shapes: sizes, all of one S.
            context: most tokens of a sequence, at most S.

        Raises:
            DeviceError: it has not.
        """
        self._spec = spec
        self._context = context
        self._shapes = tuple(sorted(shapes))
        cells = {shape.cells for shape in shapes}
        if len(cells) != 1 or context > min(cells) or not any(shape.tokens == 1 for shape in shapes):
            raise DeviceError(
                f"the variant's sizes have {sorted(cells)} cells for {context} tokens; expected one number "
                "of cells, enough for them, and a size of one token; convert the bundle again"
            )
        for shape in self._shapes:
            found = {n: (kind.shape, kind.state) for n, kind in predictor.inputs(shape.signature).items()}
            expected = _inputs(spec, shape)
            if found != expected:
                odd = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))[0]
                raise DeviceError(
                    f"function {shape.signature!r} has the input {odd!r} as {found.get(odd)}, its manifest "
                    f"says {expected.get(odd)} (shape, state); convert the bundle again"
                )
        self._predictor: StatePredictor | None = predictor
        self._turns = Turns(predictor)

    def new_sequence(self) -> StateSequence:
        """An empty sequence with states of its own: 2 L K S D float16 numbers.

        Raises:
            DeviceError: the model was closed, or loaded before the process was forked, or Core ML refuses
                the states.
        """
        return self._turns.take(self._start)

    def close(self) -> None:
        """Releases the model, once the step that runs is over."""
        self._turns.end(self._forget)

    def _start(self) -> StateSequence:
        if self._predictor is None:
            raise DeviceError(CLOSED)
        predict = self._predictor.start(self._shapes[0].signature)
        return StateSequence(predict, self._turns, self._spec, self._shapes, self._context)

    def _forget(self) -> None:
        self._predictor = None
        self._turns.forget()


class StateSequence:
    """One sequence over states of its own; implements `TokenSequence`."""

    def __init__(
        self, predict: Predict, turns: Turns, spec: DecoderSpec, shapes: tuple[StepShape, ...], context: int
    ) -> None:
        """Starts empty over zeroed states."""
        self._turns = turns
        self._predict: Predict | None = predict
        self._vocabulary = spec.vocab_size
        self._window = spec.window
        self._shapes = shapes
        self._context = context
        self._length = 0

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._length

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.
            between: as `protocol.TokenSequence` has it.

        Returns:
            (V,) float32 logits after the last of them.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            DeviceError: a token is outside the vocabulary, or Core ML failed.
        """
        self._check_room(tokens)
        logits: Float = np.empty(0, np.float32)
        for shape, start, piece in self._pieces(tokens, self._shapes):
            if start > self._length and between is not None:
                between()
            last = np.full(shape.rows, len(piece) - 1, np.int32)
            logits = self._run(shape, start, piece, last)[0]
        self._length += len(tokens)
        return logits

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32."""
        self._check_room(tokens)
        logits = np.empty((len(tokens), self._vocabulary), np.float32)
        whole = tuple(shape for shape in self._shapes if shape.rows == shape.tokens)
        for shape, start, piece in self._pieces(tokens, whole):
            done = start - self._length
            rows = np.arange(shape.rows, dtype=np.int32)
            logits[done : done + len(piece)] = self._run(shape, start, piece, rows)[: len(piece)]
        self._length += len(tokens)
        return logits

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on; what they left in the states is overwritten later.

        Raises:
            CapacityError: it does not hold as many.
        """
        if not 0 <= length <= self._length:
            raise CapacityError(f"cannot shorten {self._length} tokens to {length}")
        self._length = length

    def close(self) -> None:
        """Releases the states."""
        self._predict = None
        self._length = 0

    def _pieces(self, tokens: Int, shapes: tuple[StepShape, ...]) -> Iterator[tuple[StepShape, int, Int]]:
        """Sizes to run, each with the cell of its first token and its tokens.

        A step writes T cells, padding included, so it must end within S.
        """
        start, done = self._length, 0
        while done < len(tokens):
            left = len(tokens) - done
            fitting = [s for s in shapes if start + done + s.tokens <= s.cells]
            # A step that would be padding by half or more costs more than several small ones.
            full = [s for s in fitting if s.tokens < 2 * left]
            shape = next((s for s in full if s.tokens >= left), full[-1])
            piece = tokens[done : done + shape.tokens]
            yield shape, start + done, piece
            done += len(piece)

    def _run(self, shape: StepShape, start: int, tokens: Int, rows: Int) -> Float:
        """Logits of some rows of one step: (R, V) float32."""
        if self._predict is None:
            raise DeviceError(SEQUENCE_CLOSED)
        T, S, count = shape.tokens, shape.cells, len(tokens)
        padded = np.zeros(T, np.int32)
        padded[:count] = tokens
        positions = np.arange(start, start + T, dtype=np.int32)
        # Padding may lie beyond the rotary tables, and nobody reads what it computes.
        positions[count:] = start
        distance = np.arange(start, start + T)[:, None] - np.arange(S)[None, :]
        inputs: dict[str, NDArray[np.generic]] = {
            "tokens": padded,
            "positions": positions,
            "mask": _mask(distance >= 0),
            "start": np.array([start], np.int32),
        }
        if self._window is not None:
            inputs["window_mask"] = _mask((distance >= 0) & (distance < self._window))
        if T > 1:
            inputs["rows"] = rows
        outputs = self._turns.take(self._predict, shape.signature, inputs)
        logits = outputs.get("logits")
        if logits is None or logits.shape != (shape.rows, self._vocabulary):
            found = None if logits is None else logits.shape
            raise DeviceError(
                f"function {shape.signature!r} gave logits of {found}, expected "
                f"{(shape.rows, self._vocabulary)}"
            )
        return np.asarray(logits, np.float32)

    def _check_room(self, tokens: Int) -> None:
        check_room(len(tokens), self._length, self._context)
        check_tokens(tokens, self._vocabulary)


def _mask(seen: NDArray[np.bool_]) -> Float:
    return np.where(seen, np.float32(0), LOWEST_MASK)


def _inputs(spec: DecoderSpec, shape: StepShape) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of every input of a function, and whether it is a state."""
    T, S = shape.tokens, shape.cells
    inputs: dict[str, tuple[tuple[int, ...], bool]] = {
        "tokens": ((T,), False),
        "positions": ((T,), False),
        "mask": ((T, S), False),
        "start": ((1,), False),
    }
    if spec.window is not None:
        inputs["window_mask"] = ((T, S), False)
    if T > 1:
        inputs["rows"] = ((shape.rows,), False)
    for tensor in coreml_tensors(step_contract(spec)).cells:
        inputs[tensor.name] = (tensor.shape(shape), True)
    return inputs
