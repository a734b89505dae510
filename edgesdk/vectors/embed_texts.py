"""Texts to vectors: a decoder's states, pooled over the tokens of each text.

Many texts share a step (`run_texts`, `run_whole_texts`). Sums are float64, so that a long text's mean loses
nothing. A shorter vector is the first numbers of the whole one, normalised anew (Kusupati et al., Matryoshka
Representation Learning). It knows tokens, not texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends.protocol import Float, Int
from edgesdk.bundle.embedding_record import Pooling
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_runner import StepRunner
from edgesdk.vectors.run_texts import Given, RunPiece, run_texts

NO_STATES = (
    "this bundle gives logits only; convert its checkpoint again with --embeddings, for the target litert "
    "or onnx-step"
)

_SMALLEST = 1e-12
"""Length below which a vector stays what it is, as in transformers and sentence-transformers."""


@dataclass(frozen=True)
class VectorForm:
    """What is made of states.

    Attributes:
        pooling: which states of a text count.
        normalise: vectors have length 1.
        dimensions: how many numbers of a vector stay.
    """

    pooling: Pooling
    normalise: bool
    dimensions: int


def states_of_texts(runner: StepRunner, texts: Sequence[Int], pooling: Pooling) -> Iterable[RunPiece]:
    """Runs texts for the states that a pooling reads, of a causal model.

    Args:
        runner: that nobody else uses meanwhile.
        texts: token ids, (n,) int32 each, n at least 1.
        pooling: which states of a text count.

    Raises:
        UnsupportedOption: the bundle gives no states.
        CapacityError: a text does not fit the context.
        DeviceError: the backend failed.
    """
    return run_texts(runner, texts, give=_given(runner, pooling))


def pool_states(
    pieces: Iterable[RunPiece], texts: Sequence[Int], width: int, form: VectorForm
) -> NDArray[np.float32]:
    """Vectors of texts.

    Args:
        pieces: what running them gives, in the order of each text's tokens.
        texts: token ids, (n,) int32 each, n at least 1.
        width: W, numbers of a state.
        form: what is made of the states.

    Returns:
        (texts, dimensions) float32.
    """
    pooled = np.zeros((len(texts), width), np.float64)
    begun = np.zeros(len(texts), np.bool_)
    for piece in pieces:
        if form.pooling == "mean":
            pooled[piece.place] += piece.rows.sum(axis=0, dtype=np.float64)
        elif form.pooling == "last":
            pooled[piece.place] = piece.rows[-1]
        elif not begun[piece.place]:
            pooled[piece.place] = piece.rows[0]
        begun[piece.place] = True
    if form.pooling == "mean":
        pooled /= np.array([[max(len(text), 1)] for text in texts]).reshape(-1, 1)
    vectors = pooled[:, : form.dimensions]
    return (of_length_one(vectors) if form.normalise else vectors).astype(np.float32)


def of_length_one(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (n, W), each divided by its length; what has nearly none stays nearly nothing."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SMALLEST)
    found: NDArray[np.float64] = vectors / lengths
    return found


def join_states(pieces: Iterable[RunPiece], texts: Sequence[Int], width: int) -> list[Float]:
    """States of every token of texts.

    Args:
        pieces: what running them gives, in the order of each text's tokens.
        texts: token ids, (n,) int32 each, n at least 1.
        width: W, numbers of a state.

    Returns:
        (n, W) float32 for each text.
    """
    found = [np.empty((len(text), width), np.float32) for text in texts]
    done = [0] * len(texts)
    for place, rows, _ in pieces:
        found[place][done[place] : done[place] + len(rows)] = rows
        done[place] += len(rows)
    return found


def _given(runner: StepRunner, pooling: Pooling) -> Given:
    """What to ask of steps: rows of the head's input where the last token is enough or nothing else is there.

    Raises:
        UnsupportedOption: the bundle gives neither.
    """
    if runner.gives_hidden and (pooling == "last" or not runner.gives_states):
        return "hidden" if pooling == "last" else "every hidden"
    if runner.gives_states:
        return "states"
    raise UnsupportedOption(NO_STATES)
