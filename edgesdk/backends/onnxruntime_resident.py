"""ONNX Runtime with the `resident` model: the cache is one buffer per layer, updated in place.

It supports extending, scoring and forgetting, of any number of sequences in turn, on CPU. It does not
support sharing cells between sequences: that needs a step variant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.aligned_array import aligned_floats
from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.check_variant import checked
from edgesdk.backends.not_finite import require_finite
from edgesdk.backends.onnxruntime_session import PROVIDER, check_inputs, onnxruntime_errors, open_session
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Between, Cells, Float, Int
from edgesdk.backends.sequence_room import OTHER_ADAPTER, SEQUENCE_CLOSED, check_room, check_tokens
from edgesdk.backends.turns import CLOSED, Turns
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.step_contract import step_contract
from edgesdk.errors import CapacityError, DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from edgesdk.backends.resident_adapters import ResidentAdapters

CHUNK_TOKENS = 512
"""Most tokens of one run: attention scores take memory in proportion."""


@checked
def open_resident(request: OpenRequest) -> Opened:
    """Opens a resident variant.

    Raises:
        BundleError: an adapter beside it is damaged, or fits none of its products.
        DeviceError: onnxruntime is missing or refuses it.
    """
    from edgesdk.backends.resident_adapters import adapter_files  # every process imports this module

    require_float_cells(request.variant, "onnxruntime")
    bundle, variant = request.bundle, request.variant
    model = ResidentModel(
        bundle.file(variant.entry),
        bundle.manifest.decoder_of(variant),
        variant.context,
        threads=request.threads,
        adapters=adapter_files(bundle, variant),
    )
    return Opened(model, PROVIDER, 1.0)


class ResidentModel:
    """A resident model; implements `SequenceBackend`."""

    def __init__(
        self,
        path: Path,
        spec: DecoderSpec,
        context: int,
        *,
        threads: int,
        adapters: Mapping[int, Path] | None = None,
    ) -> None:
        """Loads a model.

        Args:
            path: the ONNX file.
            spec: shape of the decoder.
            context: most tokens of a sequence.
            threads: CPU threads.
            adapters: files of those that requests may ask for, by gate.

        Raises:
            BundleError: one of these is damaged, or fits none of its products.
            DeviceError: onnxruntime is missing or refuses the file.
        """
        from edgesdk.backends.resident_adapters import ResidentAdapters

        self._spec = spec
        self._context = context
        self._session: InferenceSession | None = open_session(path, threads)
        expected: dict[str, tuple[int | None, ...]] = {
            "input_ids": (None, None),
            "attention_mask": (None, None),
        }
        for group in step_contract(spec).groups:
            for layer in group.layers:
                for kind in ("key", "value"):
                    expected[f"past_key_values.{layer}.{kind}"] = (None, group.heads, None, *group.tail)
        check_inputs(self._session, path, expected)
        with onnxruntime_errors(f"cannot say which adapters {path.name} takes"):  # names that are not UTF-8
            optional = {value.name: value.shape for value in self._session.get_overridable_initializers()}
        self._adapters: ResidentAdapters | None = ResidentAdapters(adapters or {}, optional)
        self._turns = Turns(self._session)

    def new_sequence(self) -> ResidentSequence:
        """An empty sequence, with memory for the whole context that is touched as it fills.

        Raises:
            DeviceError: the model was closed, or loaded before the process was forked.
        """
        session, adapters = self._session, self._adapters
        self._turns.expect_open()
        if session is None or adapters is None:
            raise DeviceError(CLOSED)
        return ResidentSequence(session, self._turns, self._spec, self._context, adapters)

    def close(self) -> None:
        """Releases the model, once the step that runs is over."""
        self._turns.end(self._forget)

    def _forget(self) -> None:
        self._session = self._adapters = None
        self._turns.forget()


class ResidentSequence:
    """One sequence with its cache; implements `TokenSequence`."""

    def __init__(
        self,
        session: InferenceSession,
        turns: Turns,
        spec: DecoderSpec,
        context: int,
        adapters: ResidentAdapters,
    ) -> None:
        """Allocates the cache: float32 cells for the whole context."""
        self._turns = turns
        self._session: InferenceSession | None = session
        self._vocabulary = spec.vocab_size
        self._context = context
        self._length = 0
        self._ones: NDArray[np.int64] = np.ones((1, context), np.int64)
        self._from: NDArray[np.int64] = np.zeros(1, np.int64)
        self._last = aligned_floats(1, 1, spec.vocab_size)
        self._binding = session.io_binding()
        self._contract = step_contract(spec)
        self._cells = allocate_cells(self._contract.groups, context)
        self._caches = [
            (f"{layer}.{kind}", array[place, i : i + 1])
            for group, array in zip(self._contract.groups, self._cells.arrays, strict=True)
            for place, layer in enumerate(group.layers)
            for i, kind in enumerate(("key", "value"))
        ]
        self._adapters: ResidentAdapters | None = adapters
        self._gates: Gates = ()
        self._filled: Mapping[str, Float] = {}
        self._bind_cache()

    def _bind_cache(self) -> None:
        for name, cache in self._caches:
            # The same buffer as past and present is what makes the kernel append in place.
            self._bind_input(f"past_key_values.{name}", cache)
            self._bind_output(f"present.{name}", cache)
        self._bind_input("logits_from", self._from)

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of its cache."""
        return sum(cache.nbytes for _, cache in self._caches)

    def use_gates(self, gates: Gates) -> None:
        """As `protocol.GatedSequence` has it; nothing is copied but sums of adapters.

        Raises:
            CapacityError: it holds tokens.
            DeviceError: there is no such adapter, or it is closed.
        """
        if gates == self._gates:
            return
        if self._length:
            raise CapacityError(OTHER_ADAPTER)
        if self._adapters is None:
            raise DeviceError(SEQUENCE_CLOSED)
        self._filled = self._adapters.inputs(gates)
        self._gates = gates
        # No input can be taken back alone.
        self._binding.clear_binding_inputs()
        self._bind_cache()
        for name, array in self._filled.items():
            self._bind_input(name, array)

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.
            between: as `protocol.TokenSequence` has it.

        Returns:
            (V,) float32 logits after the last of them; valid until the next call.

        Raises:
            CapacityError: they do not fit; nothing has changed.
            NotFiniteError: the model gave NaN or infinity; nothing has changed.
        """
        self._check_room(tokens)
        self._from[0] = -1
        self._bind_output("logits", self._last)
        length = self._length
        for start in range(0, len(tokens), CHUNK_TOKENS):
            if start and between is not None:
                between()
            chunk = tokens[start : start + CHUNK_TOKENS]
            self._turns.take(self._run, chunk, length)
            length += len(chunk)
        self._length = length
        last: Float = self._last[0, 0]
        return last

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32."""
        self._check_room(tokens)
        logits = np.empty((1, len(tokens), self._vocabulary), np.float32)
        self._from[0] = 0
        length = self._length
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            self._bind_output("logits", logits[:, start : start + len(chunk)])
            self._turns.take(self._run, chunk, length)
            length += len(chunk)
        self._length = length
        scored: Float = logits[0]
        return scored

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on; what they left in the cache is overwritten later.

        Raises:
            CapacityError: it does not hold as many.
        """
        if not 0 <= length <= self._length:
            raise CapacityError(f"cannot shorten {self._length} tokens to {length}")
        self._length = length

    def close(self) -> None:
        """Releases the cache."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._caches.clear()
        self._cells = Cells(())
        self._filled = {}
        self._session = self._adapters = None
        self._length = 0

    def _run(self, tokens: Int, length: int) -> None:
        if self._session is None:
            raise DeviceError(SEQUENCE_CLOSED)
        ids = tokens.astype(np.int64)[None]
        self._bind_input("input_ids", ids)
        self._bind_input("attention_mask", self._ones[:, : length + len(tokens)])
        with onnxruntime_errors("failed"):
            self._session.run_with_iobinding(self._binding)
        # Products on int8 activations hide NaN from the logits (docs/decisions/0016).
        require_finite(self._cells.take(slice(length, length + len(tokens))), self._contract)

    def _bind_input(self, name: str, array: NDArray[np.generic]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def _bind_output(self, name: str, array: NDArray[np.generic]) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def _check_room(self, tokens: Int) -> None:
        check_room(len(tokens), self._length, self._context)
        check_tokens(tokens, self._vocabulary)
