"""Integers that wait in a file, not in memory, until every target has written them.

A model's integers take a byte each; kept in memory they would be most of what a conversion needs. It knows
nothing of recipes.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from edgesdk_converters.checkpoints.mapped_file import MappedFile
from edgesdk_converters.quantise.palette_tensor import StoredTensor
from edgesdk_converters.quantise.quantised_tensor import QuantisedTensor

_SMALLEST_BYTES = 1 << 18  # fewer are not worth a file


class TensorSpool:
    """A folder of files, one a tensor; as a context manager it removes them when the last target has them."""

    def __init__(self, folder: Path) -> None:
        """Puts files into `folder`, which is made when the first comes."""
        self._folder = folder
        self._maps: list[MappedFile] = []

    def __enter__(self) -> Self:
        """Nothing is made yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the files, and their pages from memory whoever still holds integers of them.

        Integers that are still held stay what they are, but for Windows, which keeps files that are mapped:
        these go with the folder above.
        """
        for stored in self._maps:
            stored.release_all()
        self._maps.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, tensor: StoredTensor) -> StoredTensor:
        """The same tensor, its integers read from a file; small ones and palettes as they are.

        Raises:
            OSError: the file cannot be written.
        """
        if not isinstance(tensor, QuantisedTensor) or tensor.values.nbytes < _SMALLEST_BYTES:
            return tensor
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{len(self._maps)}.int8"
        values = np.ascontiguousarray(tensor.values)
        with path.open("wb") as file:
            file.write(values.reshape(-1).view(np.uint8).data)
        self._maps.append(MappedFile(path))
        stored = self._maps[-1].view(0, values.nbytes).view(np.int8).reshape(values.shape)
        return dataclasses.replace(tensor, values=stored)
