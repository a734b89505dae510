"""Adapters of a resident variant, as onnxruntime-genai has them: loaded from files, made active by name.

One that is asked for as it is comes from its file in the bundle, which is mapped, and stays loaded. Sums of
adapters, and one with a factor, are written to a file of this model's own first, and a few of them are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from edgesdk.backends.protocol import Float
from edgesdk.backends.resident_adapters import MOST_MIXTURES, ResidentAdapters
from edgesdk.bundle.adapter_record import Gates
from edgesdk.bundle.drafts import scratch_folder
from edgesdk.errors import DeviceError, first_line

if TYPE_CHECKING:
    from onnxruntime_genai import Generator


class GenaiAdapters:
    """What one model of onnxruntime-genai has loaded; to be used in a turn of it."""

    def __init__(self, package: ModuleType, model: object, adapters: ResidentAdapters) -> None:
        """Loads nothing yet.

        Args:
            package: onnxruntime_genai.
            model: of it.
            adapters: those of the variant, checked.
        """
        self._adapters = adapters
        self._native = package.Adapters(model)
        self._files = ExitStack()
        self._folder: Path | None = None
        self._loaded: set[str] = set()
        self._mixed: OrderedDict[Gates, str] = OrderedDict()
        self._leaving: set[str] = set()
        self._made = 0

    @property
    def native(self) -> object:
        """Of the runtime; its end frees what is mapped. None once this is closed."""
        return self._native

    def activate(self, generator: Generator, gates: Gates) -> None:
        """Has a generator run with adapters from its next token on.

        Args:
            generator: one without tokens.
            gates: of a request, at least one of them not 0.

        Raises:
            DeviceError: there is no such adapter, or the runtime refuses it, or no file can be written.
        """
        self._adapters.check(gates)
        alone = self._adapters.alone(gates)
        if alone is not None:
            name = f"adapter {alone}"
            self._load(name, lambda: self._adapters.files[alone])
        else:
            name = self._name_of(gates)
            self._load(name, lambda: self._written(name, self._adapters.summed(gates)))
        try:
            generator.set_active_adapter(self._native, name)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"onnxruntime-genai cannot run an adapter: {first_line(error)}") from error

    def close(self) -> None:
        """Lets go of what is mapped, and removes the files that were written."""
        self._native, self._adapters = None, ResidentAdapters({})
        self._files.close()

    def _load(self, name: str, file: Callable[[], Path]) -> None:
        if name in self._loaded:
            return
        path = file()
        try:
            self._native.load(str(path), name)
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"onnxruntime-genai cannot load {path.name}: {first_line(error)}") from error
        self._loaded.add(name)

    def _name_of(self, gates: Gates) -> str:
        """A mixture's name; the one that was asked for longest ago makes room."""
        if gates not in self._mixed:
            while len(self._mixed) >= MOST_MIXTURES:
                self._leaving.add(self._mixed.popitem(last=False)[1])
            self._leaving = {name for name in self._leaving if not self._unload(name)}
            self._made += 1
            self._mixed[gates] = f"mixture {self._made}"
        self._mixed.move_to_end(gates)
        return self._mixed[gates]

    def _unload(self, name: str) -> bool:
        """Whether it is gone; one that a sequence still runs with is refused, and asked for again later."""
        if name in self._loaded:
            try:
                self._native.unload(name)
            except (RuntimeError, ValueError):
                return False
            self._loaded.discard(name)
        if self._folder is not None:
            with suppress(OSError):  # Windows keeps what is mapped
                (self._folder / f"{name}.onnx_adapter").unlink()
        return True

    def _written(self, name: str, filled: Mapping[str, Float]) -> Path:
        from onnxruntime import AdapterFormat, OrtValue

        try:
            if self._folder is None:
                self._folder = self._files.enter_context(scratch_folder())
            path = self._folder / f"{name}.onnx_adapter"
            file = AdapterFormat()
            file.set_parameters({key: OrtValue.ortvalue_from_numpy(array) for key, array in filled.items()})
            file.export_adapter(str(path))
        except (OSError, RuntimeError) as error:
            raise DeviceError(
                f"no adapter can be written for onnxruntime-genai: {first_line(error)}"
            ) from error
        return path
