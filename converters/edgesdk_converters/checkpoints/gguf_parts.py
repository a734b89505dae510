"""A GGUF file in parts: `NAME-00001-of-00003.gguf` and so on, each a GGUF file with some of the tensors.

Metadata stand in the first part; every part has `split.no` (from 0), `split.count` and, of them all,
`split.tensors.count` (llama.cpp, `gguf-split`). The first part is what a user names, as for llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import CheckpointError, quoted
from edgesdk_converters.checkpoints.gguf_file import GgufTensors
from edgesdk_converters.checkpoints.gguf_header import GgufHeader, read_gguf_header
from edgesdk_converters.checkpoints.stored_blocks import BlockType, StoredBlocks

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
_SUFFIX = ".gguf"
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL)


def model_name(file: str) -> str:
    """What a file's name says of its model: without `.gguf`, and without the number of its part."""
    found = _NAME.fullmatch(file)
    if found is not None:
        return found[1]
    return file[: -len(_SUFFIX)] if file.lower().endswith(_SUFFIX) else file


def part_names(file: str) -> tuple[str, ...]:
    """Names of all parts, in order, of a file that is named as one; the name alone for any other."""
    found = _NAME.fullmatch(file)
    if found is None or int(found[3]) < 1:
        return (file,)
    suffix = file[-len(_SUFFIX) :]
    return tuple(f"{found[1]}-{n:05d}-of-{found[3]}{suffix}" for n in range(1, int(found[3]) + 1))


def first_part(file: str) -> str:
    """Name of the first part of a file that is named as one; the name itself for any other."""
    found = _NAME.fullmatch(file)
    if found is None or int(found[3]) < 1:
        return file
    return f"{found[1]}-00001-of-{found[3]}{file[-len(_SUFFIX) :]}"


def part_paths(path: Path) -> tuple[Path, ...]:
    """All parts of a model whose first is `path`, in order, there or not; else `path` alone."""
    names = part_names(path.name)
    return tuple(path.with_name(name) for name in names) if names[0] == path.name else (path,)


def read_parts(path: Path, first: GgufHeader) -> GgufTensors | JoinedTensors:
    """The tensors of a file, or of all parts of a model.

    Args:
        path: the file, or the first part.
        first: its header.

    Raises:
        CheckpointError: it is another part, one is missing or belongs elsewhere, or what parts say of
            themselves does not agree.
        MissingExtra: the gguf package is not installed.
    """
    count = first.metadata.get(COUNT, 1)
    paths = part_paths(path)
    if count == 1 and len(part_names(path.name)) == 1:
        return GgufTensors(path, first.tensors)
    names = part_names(path.name)
    if type(count) is not int or count != len(names):
        named = f"one of {len(names)} parts" if len(names) > 1 else "a whole model"
        raise CheckpointError(
            f"{path.name} is named as {named}, and has {COUNT} {quoted(count)}; give the first part "
            f"under the name that it was made with, as {model_name(path.name)}-00001-of-00003{_SUFFIX}"
        )
    if names[0] != path.name:
        raise CheckpointError(f"{path.name} is part of a model in {count}; give the first, {names[0]}")
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        raise CheckpointError(
            f"{path.name} is one of {count} parts, and {missing[0]} is not beside it; get all of them"
        )
    headers = [first, *map(read_gguf_header, paths[1:])]
    for number, (part, header) in enumerate(zip(paths, headers, strict=True)):
        _check(part, header, number, first)
    total, found = first.metadata.get(TENSORS), sum(len(header.tensors) for header in headers)
    if total != found:
        raise CheckpointError(
            f"{path.name} says that its parts have {quoted(total)} tensors ({TENSORS}), they have {found}; a "
            "part is of another model or damaged, get all of them again"
        )
    return JoinedTensors(
        [GgufTensors(part, header.tensors) for part, header in zip(paths, headers, strict=True)]
    )


def _check(path: Path, header: GgufHeader, number: int, first: GgufHeader) -> None:
    """Compares a part with its name and with what the first one says."""
    told = header.metadata.get(NUMBER)
    if told != number:
        raise CheckpointError(
            f"{path.name} has {NUMBER} {quoted(told)}, expected {number}; it is another part, get it again"
        )
    for key, value in header.metadata.items():
        # Parts may repeat what the first one says, and must say the same of the whole.
        if key != NUMBER and (key in first.metadata or key in (COUNT, TENSORS)):
            expected = first.metadata.get(key)
            if value != expected:
                raise CheckpointError(
                    f"{path.name} has {quoted(key)} {quoted(value)}, the first part {quoted(expected)}; it "
                    "is a part of another model"
                )
    for key in (COUNT, TENSORS):
        if key not in header.metadata:
            raise CheckpointError(f"{path.name} has no {key}; it is no part of a model")


class JoinedTensors:
    """Implements `TensorStore` and `BlockStore` over the parts of a model."""

    def __init__(self, parts: Sequence[GgufTensors]) -> None:
        """Joins them; reads nothing.

        Raises:
            CheckpointError: two have a tensor of the same name.
        """
        self._of: dict[str, GgufTensors] = {}
        for part in parts:
            for name in part:
                if name in self._of:
                    raise CheckpointError(
                        f"{self._of[name].file_name} and {part.file_name} both hold {quoted(name)}; one of "
                        "them is of another model"
                    )
                self._of[name] = part

    def __iter__(self) -> Iterator[str]:
        """Names, in order of parts."""
        return iter(self._of)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._of

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape in row-major order."""
        return self._part(name).shape(name)

    def stored_type(self, name: str) -> str:
        """The ggml type."""
        return self._part(name).stored_type(name)

    def load(self, name: str) -> NDArray[np.float32]:
        """The tensor as a new float32 array."""
        return self._part(name).load(name)

    def load_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Rows [start, stop) of the first axis as a new float32 array."""
        return self._part(name).load_rows(name, start, stop)

    def block_type(self, name: str) -> BlockType | None:
        """How a matrix lies in blocks, without reading it; None if it does not."""
        return self._part(name).block_type(name)

    def stored_blocks(self, name: str) -> StoredBlocks:
        """The blocks of a matrix.

        Raises:
            CheckpointError: it has none, or scales that are not finite.
        """
        return self._part(name).stored_blocks(name)

    def _part(self, name: str) -> GgufTensors:
        if name not in self._of:
            raise CheckpointError(f"the parts of the model have no tensor {name!r}")
        return self._of[name]
