"""What the frozen target says of texts, kept on disk: computed once, read by every step of every training.

A folder of plain arrays that grow together, one row for each token: `tokens` int32, `hidden` float16 (E
each, what the head reads), `log_z` float32; `bounds` int64 has start, length and first position to learn
from of each text. `features.json` says how many rows are whole, so a run that was ended goes on where it
was, and what was half written is cut off. They are memory-mapped when they are read, so training needs the
memory of its batches alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.write_file import write_file
from edgesdk.errors import CheckpointError, TransformError
from edgesdk_converters.graph.program import Program
from edgesdk_converters.training.frozen_target import HiddenStates

_INDEX = "features.json"
_VERSION = 1
_MOST_TOKENS = 512


def most_read_tokens(program: Program) -> int:
    """Most tokens of a call of a target, and so of a text: the same whatever reads it, for states that stand
    beside each other are of the same tokens.
    """
    return min(_MOST_TOKENS, program.spec.context)


class Target(Protocol):
    """What reads texts: the evaluator (`FrozenTarget`) or a bundle (`RunningTarget`)."""

    @property
    def most_tokens(self) -> int:
        """Of one call."""

    @property
    def hidden_size(self) -> int:
        """E."""

    def states(self, texts: Sequence[NDArray[np.int32]]) -> list[HiddenStates]:
        """States of texts: (n,) int32 each, `most_tokens` together at most."""


@dataclass(frozen=True)
class LearningText:
    """A text to learn from.

    Attributes:
        tokens: (n,) int32.
        first: the first position whose next token is to be learnt: that of the last token of a prompt, or 0.
    """

    tokens: NDArray[np.int32]
    first: int


@dataclass(frozen=True)
class Features:
    """States of texts, memory-mapped; N tokens in all.

    Attributes:
        tokens: (N,) int32.
        hidden: (N, E) float16.
        log_z: (N,) float32.
        bounds: (texts, 3) int64: start, length, first position to learn from (from the text's start).
    """

    tokens: NDArray[np.int32]
    hidden: NDArray[np.float16]
    log_z: NDArray[np.float32]
    bounds: NDArray[np.int64]


def collect_features(
    target: Target,
    texts: Sequence[LearningText],
    folder: Path,
    origin: str,
    say: Callable[[int], None] = lambda _: None,
) -> Features:
    """Runs the target over texts that the folder does not have yet.

    Args:
        target: what reads them.
        texts: all of them, those of an earlier call first; what is longer than a call of the target is cut.
        folder: is made.
        origin: tells this target from others.
        say: told how many tokens are done.

    Raises:
        CheckpointError: the folder holds other features.
        TransformError: a state is not finite, or too large for float16.
        OSError: a file cannot be written; what was whole before is still.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [LearningText(text.tokens[: target.most_tokens], text.first) for text in texts]
    done, tokens = _whole(folder, texts, target.hidden_size, origin)
    files = [
        _Growing(folder / name, rows, width)
        for name, rows, width in _layout(done, tokens, target.hidden_size)
    ]
    try:
        for batch in _batches(texts[done:], target.most_tokens):
            states = target.states([text.tokens for text in batch])
            tokens_file, hidden_file, log_z_file, bounds_file = files
            for text, state in zip(batch, states, strict=True):
                bounds_file.add(np.array([[tokens, len(text.tokens), text.first]], np.int64))
                tokens_file.add(text.tokens.astype(np.int32))
                hidden_file.add(_half(state))
                log_z_file.add(state.log_z)
                tokens += len(text.tokens)
                done += 1
            for file in files:
                file.flush()
            _write_index(folder, done, tokens, target.hidden_size, origin)
            say(tokens)
    finally:
        for file in files:
            file.close()
    return open_features(folder)


def open_features(folder: Path) -> Features:
    """Opens what `collect_features` has written.

    Raises:
        CheckpointError: there is none, or its files are shorter than it says.
    """
    index = _read_index(folder)
    E, texts, tokens = (int(index[key]) for key in ("hidden_size", "texts", "tokens"))
    shapes = {"tokens": (tokens,), "hidden": (tokens, E), "log_z": (tokens,), "bounds": (texts, 3)}
    types = {"tokens": np.int32, "hidden": np.float16, "log_z": np.float32, "bounds": np.int64}
    arrays = {}
    for name, shape in shapes.items():
        path = folder / f"{name}.bin"
        need = int(np.prod(shape)) * np.dtype(types[name]).itemsize
        have = path.stat().st_size if path.is_file() else 0
        if have < need or not need:
            raise CheckpointError(
                f"{path} has {have} bytes, expected {need or 'some'}; remove {folder} and run again"
            )
        arrays[name] = np.memmap(path, types[name], "r", shape=shape)
    return Features(arrays["tokens"], arrays["hidden"], arrays["log_z"], np.array(arrays["bounds"]))


class _Growing:
    """A file that is cut to its whole rows and gets more."""

    def __init__(self, path: Path, rows: int, row_bytes: int) -> None:
        self._file: IO[bytes] = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(rows * row_bytes)
        self._file.seek(0, os.SEEK_END)

    def add(self, rows: NDArray[np.generic]) -> None:
        self._file.write(np.ascontiguousarray(rows).tobytes())

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _layout(texts: int, tokens: int, hidden_size: int) -> Iterator[tuple[str, int, int]]:
    """Name, whole rows and bytes of a row of each file."""
    yield "tokens.bin", tokens, 4
    yield "hidden.bin", tokens, 2 * hidden_size
    yield "log_z.bin", tokens, 4
    yield "bounds.bin", texts, 3 * 8


def _batches(texts: Sequence[LearningText], most_tokens: int) -> Iterator[list[LearningText]]:
    batch: list[LearningText] = []
    used = 0
    for text in texts:
        if batch and used + len(text.tokens) > most_tokens:
            yield batch
            batch, used = [], 0
        batch.append(text)
        used += len(text.tokens)
    if batch:
        yield batch


def _half(state: HiddenStates) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = state.hidden.astype(np.float16)
    if not (np.isfinite(half).all() and np.isfinite(state.log_z).all()):
        raise TransformError(
            "the target's hidden states are not finite in float16; nothing can be trained on this checkpoint"
        )
    return half


def _whole(folder: Path, texts: Sequence[LearningText], hidden_size: int, origin: str) -> tuple[int, int]:
    """How many texts and tokens are there already, of those that are wanted."""
    if not (folder / _INDEX).exists():
        return 0, 0
    index = _read_index(folder)
    done, tokens = int(index["texts"]), int(index["tokens"])
    same = index["hidden_size"] == hidden_size and index["origin"] == origin and done <= len(texts)
    if same and done:
        wanted = np.concatenate([text.tokens for text in texts[:done]])
        same = np.array_equal(open_features(folder).tokens, wanted)
    if not same:
        raise CheckpointError(
            f"{folder} holds features of another target or other texts; remove it and run again"
        )
    return done, tokens


def _read_index(folder: Path) -> dict[str, int | str]:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if (
            index["version"] != _VERSION
            or min(int(index[key]) for key in ("texts", "tokens", "hidden_size")) < 0
        ):
            raise ValueError("other numbers were expected")
        return {key: index[key] for key in ("texts", "tokens", "hidden_size", "origin")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / _INDEX} cannot be read ({error}); remove {folder} and run again"
        ) from None


def _write_index(folder: Path, texts: int, tokens: int, hidden_size: int, origin: str) -> None:
    index = {
        "version": _VERSION,
        "origin": origin,
        "texts": texts,
        "tokens": tokens,
        "hidden_size": hidden_size,
    }
    write_file(folder / _INDEX, json.dumps(index) + "\n")
