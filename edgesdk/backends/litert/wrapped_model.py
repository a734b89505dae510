"""A LiteRT file opened through LiteRT's Python wrapper: for devices whose libraries the wrapper finds.

It holds the interpreter's lock while it opens and runs; what needs the CPU only goes by `native_model`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.backends.litert.host_memory import described_shape
from edgesdk.backends.litert.native_model import Arguments
from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.turns import keep_for_ever
from edgesdk.errors import DeviceError, first_line

if TYPE_CHECKING:
    from ai_edge_litert.compiled_model import CompiledModel


class WrappedModel:
    """A model compiled for the GPU; has what `NativeModel` has."""

    def __init__(self, path: Path) -> None:
        """Opens a file.

        Raises:
            DeviceError: LiteRT is missing or refused the file.
        """
        with caught_native_log():
            try:
                from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator, Options

                self._model: CompiledModel | None = CompiledModel.from_file(
                    str(path), options=Options(hardware_accelerators=HardwareAccelerator.GPU)
                )
            except ImportError as error:
                raise DeviceError(f"LiteRT cannot be imported: {error}") from error
            except (RuntimeError, ValueError) as error:
                raise DeviceError(f"LiteRT cannot load {path.name}: {first_line(error)}") from error
        # LiteRT prints when its environment goes away, also when the interpreter ends.
        self._release = weakref.finalize(self, _release, self._model, os.getpid())

    @property
    def fully_accelerated(self) -> bool:
        """Whether every operation runs on the device."""
        return bool(self._opened.is_fully_accelerated())

    def index(self, signature: str) -> int:
        """Index of a signature; -1 if there is none of that name."""
        return int(self._opened.get_signature_index(signature))

    def names(self, index: int) -> tuple[list[str], list[str]]:
        """Names of a signature's inputs and outputs, in order."""
        found = self._opened.get_signature_by_index(index)
        return list(found["inputs"]), list(found["outputs"])

    def input_shape(self, index: int, place: int) -> tuple[int, ...]:
        """Shape of a float32 input, as the C library describes it."""
        inputs, _ = self.names(index)
        signature = next(n for n in self._opened.get_signature_list() if self.index(n) == index)
        return described_shape(self._opened.create_input_buffer_by_name(signature, inputs[place]).capsule)

    def resize(self, index: int, shapes: Iterable[tuple[int, ...]]) -> None:
        """Gives the inputs of a signature other shapes."""
        for place, shape in enumerate(shapes):
            self._opened.resize_input_tensor(place, shape, index, strict=False)

    def run(self, index: int, arguments: Arguments) -> None:
        """Runs a signature."""
        self._opened.run_by_index(index, arguments.inputs, arguments.outputs)

    def close(self) -> None:
        """Releases the model."""
        self._model = None
        self._release()

    @property
    def _opened(self) -> CompiledModel:
        if self._model is None:
            raise DeviceError("the LiteRT file was closed; load it again")
        return self._model


def _release(model: CompiledModel, process: int) -> None:
    if os.getpid() != process:  # its threads are not here, and its end would wait for them
        keep_for_ever(model)
        return
    with caught_native_log():
        environment = model.environment
        model.close()
        environment.close()
