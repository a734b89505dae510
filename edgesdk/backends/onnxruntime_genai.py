"""onnxruntime-genai with the `resident` model: an independent runtime over the same file.

It supports extending, scoring and forgetting, with one sequence per generator. Tokenisation, sampling
and stopping stay with edgesdk; onnxruntime-genai's own are not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from edgesdk.backends.check_variant import checked
from edgesdk.backends.genai_folder import genai_folder
from edgesdk.backends.onnxruntime_telemetry import stop_telemetry
from edgesdk.backends.opened import Opened, OpenRequest, require_float_cells
from edgesdk.backends.protocol import Between, Float, Int
from edgesdk.backends.sequence_room import OTHER_ADAPTER, SEQUENCE_CLOSED, check_room, check_tokens
from edgesdk.backends.turns import CLOSED, Turns
from edgesdk.bundle.adapter_record import Gates
from edgesdk.errors import CapacityError, DeviceError, MissingExtra, first_line

if TYPE_CHECKING:
    from onnxruntime_genai import Generator

    from edgesdk.backends.genai_adapters import GenaiAdapters

CHUNK_TOKENS = 512
"""Most tokens of one call: this runtime computes the logits of all of them."""

_NO_PADDING = -1
"""With a padding token set, logits after a prompt that ends with that very token would be another's."""


@checked
def open_genai(request: OpenRequest) -> Opened:
    """Opens a resident variant.

    Raises:
        MissingExtra: onnxruntime-genai is not installed.
        BundleError: the variant's files are not what edgesdk writes.
        DeviceError: it refuses the files.
    """
    from edgesdk.backends.resident_adapters import adapter_files  # every process imports this module

    require_float_cells(request.variant, "onnxruntime_genai")
    bundle, variant = request.bundle, request.variant
    vocabulary = bundle.manifest.decoder.vocab_size
    with genai_folder(bundle, variant) as folder:
        model = GenaiModel(
            folder,
            vocabulary,
            variant.context,
            threads=request.threads,
            adapters=adapter_files(bundle, variant),
        )
    return Opened(model, "CPUExecutionProvider")


class GenaiModel:
    """A folder opened by onnxruntime-genai; implements `SequenceBackend`."""

    def __init__(
        self,
        folder: Path,
        vocabulary: int,
        context: int,
        *,
        threads: int,
        adapters: Mapping[int, Path] | None = None,
    ) -> None:
        """Loads a model.

        Args:
            folder: with `genai_config.json`, which is trusted: `genai_folder` makes one for a bundle.
            vocabulary: V.
            context: most tokens of a sequence.
            threads: CPU threads.
            adapters: files of those that requests may ask for, by gate.

        Raises:
            BundleError: one of these is damaged.
            MissingExtra: onnxruntime-genai is not installed.
            DeviceError: it refuses the files.
        """
        from edgesdk.backends.genai_adapters import GenaiAdapters
        from edgesdk.backends.resident_adapters import ResidentAdapters

        self._package = _import()
        self._vocabulary = vocabulary
        self._context = context
        held = ResidentAdapters(adapters or {})
        settings = {
            "model": {
                "pad_token_id": _NO_PADDING,
                "decoder": {"session_options": {"intra_op_num_threads": threads}},
            }
        }
        try:
            config = self._package.Config(str(folder))
            config.overlay(json.dumps(settings))
            self._model = self._package.Model(config)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"onnxruntime-genai cannot load {folder.name}: {first_line(error)}") from error
        self._adapters = GenaiAdapters(self._package, self._model, held)
        self._turns = Turns(self._model, self._adapters.native)

    def new_sequence(self) -> GenaiSequence:
        """An empty sequence.

        Raises:
            DeviceError: the model was closed, or loaded before the process was forked, or there is no
                memory for the cache.
        """
        return self._turns.take(self._start)

    def close(self) -> None:
        """Releases the model, once the step that runs is over."""
        self._turns.end(self._forget)

    def _start(self) -> GenaiSequence:
        if self._model is None:
            raise DeviceError(CLOSED)
        return GenaiSequence(
            self._package, self._model, self._turns, self._vocabulary, self._context, self._adapters
        )

    def _forget(self) -> None:
        self._model = None
        self._adapters.close()
        self._turns.forget()


class GenaiSequence:
    """One generator; implements `TokenSequence`."""

    def __init__(
        self,
        package: ModuleType,
        model: object,
        turns: Turns,
        vocabulary: int,
        context: int,
        adapters: GenaiAdapters,
    ) -> None:
        """Makes a generator with a cache for the whole context.

        Raises:
            DeviceError: onnxruntime-genai refuses.
        """
        self._turns = turns
        self._vocabulary = vocabulary
        self._context = context
        self._length = 0
        self._adapters = adapters
        self._gates: Gates = ()
        self._package, self._model = package, model
        self._held = 0
        """Tokens that the generator holds: more where some were forgotten and nothing has run since."""
        self._generator: Generator | None = self._started()

    @property
    def context(self) -> int:
        """Most tokens it can hold."""
        return self._context

    @property
    def length(self) -> int:
        """Tokens it holds."""
        return self._length

    def use_gates(self, gates: Gates) -> None:
        """As `protocol.GatedSequence` has it; the first request for an adapter maps its file.

        Raises:
            CapacityError: it holds tokens.
            DeviceError: there is no such adapter, or onnxruntime-genai refuses it.
        """
        if gates == self._gates:
            return
        if self._length:
            raise CapacityError(OTHER_ADAPTER)
        self._turns.take(self._restart, gates)

    def extend(self, tokens: Int, between: Between | None = None) -> Float:
        """Appends tokens.

        Args:
            tokens: (n,) int32, n at least 1.
            between: as `protocol.TokenSequence` has it.

        Returns:
            (V,) float32 logits after the last of them.

        Raises:
            CapacityError: they do not fit; nothing has changed.
        """
        self._check_room(tokens)
        logits: Float = np.empty(0, np.float32)
        for start in range(0, len(tokens), CHUNK_TOKENS):
            if start and between is not None:
                between()
            logits = self._turns.take(self._last, tokens[start : start + CHUNK_TOKENS])
        return logits

    def score(self, tokens: Int) -> Float:
        """Like `extend`, but returns the logits after each of the tokens: (n, V) float32."""
        self._check_room(tokens)
        logits = np.empty((len(tokens), self._vocabulary), np.float32)
        for start in range(0, len(tokens), CHUNK_TOKENS):
            chunk = tokens[start : start + CHUNK_TOKENS]
            logits[start : start + len(chunk)] = self._turns.take(self._all, chunk)
        return logits

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on.

        Raises:
            CapacityError: it does not hold as many.
        """
        if not 0 <= length <= self._length:
            raise CapacityError(f"cannot shorten {self._length} tokens to {length}")
        # Done with the next step: who forgets may be the collector, in a thread that waits for a turn.
        self._length = length

    def close(self) -> None:
        """Releases the generator, once the step that runs is over: that one holds it as well."""
        self._generator = None
        self._model = None
        self._length = 0

    def _started(self) -> Generator:
        try:
            params = self._package.GeneratorParams(self._model)
            params.set_search_options(max_length=self._context, batch_size=1, do_sample=False)
            generator: Generator = self._package.Generator(self._model, params)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"onnxruntime-genai cannot start a sequence: {first_line(error)}") from error
        return generator

    def _restart(self, gates: Gates) -> None:
        """A generator cannot let go of an adapter (0.18), so there is another one."""
        if self._generator is None:
            raise DeviceError(SEQUENCE_CLOSED)
        generator = self._started()
        if any(gates):
            self._adapters.activate(generator, gates)
        self._generator, self._gates, self._held = generator, gates, 0

    def _last(self, tokens: Int) -> Float:
        logits = self._append(tokens).get_logits()
        found: Float = np.asarray(logits, np.float32).reshape(-1)[-self._vocabulary :]
        return found

    def _all(self, tokens: Int) -> Float:
        found: Float = self._append(tokens).get_output("logits")[0]
        return found

    def _append(self, tokens: Int) -> Generator:
        generator = self._generator
        if generator is None:
            raise DeviceError(SEQUENCE_CLOSED)
        try:
            if self._held > self._length:
                generator.rewind_to(self._length)
                self._held = self._length
            generator.append_tokens(np.ascontiguousarray(tokens, np.int32))
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"onnxruntime-genai failed: {first_line(error)}") from error
        self._length += len(tokens)
        self._held = self._length
        return generator

    def _check_room(self, tokens: Int) -> None:
        check_room(len(tokens), self._length, self._context)
        check_tokens(tokens, self._vocabulary)


def _import() -> ModuleType:
    try:
        # Loads libonnxruntime by path; without it the native module ends the process (0.18).
        import onnxruntime
        import onnxruntime_genai
    except ImportError as error:
        raise MissingExtra("onnxruntime-genai", "genai") from error
    stop_telemetry(onnxruntime)
    stop_telemetry(onnxruntime_genai)
    module: ModuleType = onnxruntime_genai
    return module
