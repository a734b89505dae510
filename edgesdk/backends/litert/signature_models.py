"""A LiteRT file whose signatures are opened when they are first used, each with what LiteRT prepares for it.

A model needs the step of one token and that of prompts at once; the one for a few tokens, or those of further
stacks, perhaps never. Models of one file share its packed weights, and so it is done where these are found.

The file stays open, so that a signature which is opened later is one of the very file that was loaded, also
where another has its name meanwhile or it was deleted. One that was written to is refused.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Collection, Iterable
from pathlib import Path

from edgesdk.backends.litert.keep_signatures import signature_names
from edgesdk.backends.litert.native_model import Arguments, NativeModel
from edgesdk.backends.say_damage import say_damage
from edgesdk.errors import DeviceError


class SignatureModels:
    """The signatures of a file; has what `NativeModel` has."""

    def __init__(
        self, path: Path, first: Collection[str], *, threads: int, weight_cache: Path | None
    ) -> None:
        """Opens some signatures.

        Args:
            path: the LiteRT file.
            first: names of those to open now.
            threads: CPU threads.
            weight_cache: packed weights that are there; without, every further model packs its own.

        Raises:
            BundleError: the file is damaged, or cannot be read.
            DeviceError: LiteRT refused something.
        """
        self._path, self._threads, self._weight_cache = path, threads, weight_cache
        with say_damage(path):
            self._file = path.open("rb")
        self._end = weakref.finalize(self, self._file.close)
        self._written = self._last_written()
        self._names = signature_names(path, self._file)
        self._opening = threading.Lock()
        self._models: list[NativeModel] = []
        self._places: dict[int, tuple[NativeModel, int]] = {}
        self._closed = False
        self._open([name for name in self._names if name in first])

    @property
    def fully_accelerated(self) -> bool:
        """Whether every operation of what is open runs on the delegate."""
        return all(model.fully_accelerated for model in self._models)

    def index(self, signature: str) -> int:
        """Index of a signature in the file; -1 if there is none of that name."""
        return self._names.index(signature) if signature in self._names else -1

    def names(self, index: int) -> tuple[list[str], list[str]]:
        """Names of a signature's inputs and outputs, in order; opens it."""
        model, place = self._place(index)
        return model.names(place)

    def input_shape(self, index: int, place: int) -> tuple[int, ...]:
        """Shape of an input, as the library describes it; () where it does not."""
        model, own = self._place(index)
        return model.input_shape(own, place)

    def resize(self, index: int, shapes: Iterable[tuple[int, ...]]) -> None:
        """Gives the inputs of a signature other shapes.

        Raises:
            RuntimeError: LiteRT refused.
        """
        model, place = self._place(index)
        model.resize(place, shapes)

    def run(self, index: int, arguments: Arguments) -> None:
        """Runs a signature.

        Raises:
            RuntimeError: LiteRT failed.
            DeviceError: it was closed.
        """
        model, place = self._places.get(index) or self._place(index)
        model.run(place, arguments)

    def close(self) -> None:
        """Releases all models, once the runs that are under way are over."""
        with self._opening:
            self._closed = True
            for model in self._models:
                model.close()
            self._end()

    def _place(self, index: int) -> tuple[NativeModel, int]:
        """The model of a signature and its index there."""
        with self._opening:
            if self._closed:
                raise DeviceError("the LiteRT file was closed; load it again")
            if index not in self._places:
                self._open([self._names[index]])
            return self._places[index]

    def _open(self, names: Collection[str]) -> None:
        if self._last_written() != self._written:
            raise DeviceError(f"{self._path.name} was written to since it was loaded; load it again")
        packed = self._weight_cache
        if packed is not None and not packed.exists():
            packed = None  # LiteRT would write there, and end the process where it cannot
        model = NativeModel(
            self._path, threads=self._threads, weight_cache=packed, signatures=names, file=self._file
        )
        self._models.append(model)
        for name in names:
            self._places[self._names.index(name)] = (model, model.index(name))

    def _last_written(self) -> tuple[int, int]:
        found = os.fstat(self._file.fileno())
        return found.st_size, found.st_mtime_ns
