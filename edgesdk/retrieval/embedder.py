"""What an index asks of a model that embeds texts, and how passages are ranked by it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgesdk.errors import RetrievalError
from edgesdk.retrieval.passage import Passage


class Embedder(Protocol):
    """A model that embeds texts.

    Attributes:
        name: of the model and of its weights: an index holds vectors of one.
        width: numbers of a vector.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - above

    @property
    def width(self) -> int: ...  # noqa: D102 - above

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of passages, of length 1: (texts, width)."""
        ...

    def embed_question(self, question: str) -> npt.NDArray[np.float32]:
        """Vector of what is searched for: (width,). Many models want other words before it."""
        ...


def check_vectors(embedder: Embedder, vectors: npt.NDArray[np.float32], texts: int) -> list[bytes]:
    """Vectors as an index keeps them: float16, which moves a cosine by less than 1e-3.

    Args:
        embedder: what gave them.
        vectors: (texts, width).
        texts: how many there should be.

    Raises:
        RetrievalError: they are too few or too many, not finite, or of another width than the model says.
    """
    with np.errstate(over="ignore"):  # what float16 cannot hold is refused below
        kept = np.asarray(vectors).astype("<f2")
    if kept.shape != (texts, embedder.width):
        raise RetrievalError(
            f"{embedder.name} gave vectors of shape {kept.shape}, expected {(texts, embedder.width)}"
        )
    if not np.isfinite(kept).all():
        raise RetrievalError(f"{embedder.name} gave vectors that are not finite, expected length 1")
    return [vector.tobytes() for vector in kept]


def ranked(
    embedder: Embedder, question: str, found: Sequence[Passage], vectors: Sequence[bytes]
) -> list[Passage]:
    """Passages by their likeness to a question, the likest first; `score` is the cosine.

    Raises:
        RetrievalError: a vector that the index holds is of another width, or not finite.
    """
    if any(not isinstance(vector, bytes) or len(vector) != 2 * embedder.width for vector in vectors):
        raise RetrievalError(f"the index holds vectors that are not those of {embedder.name}; build it again")
    asked = np.asarray(embedder.embed_question(question), np.float32)
    if asked.shape != (embedder.width,) or not np.isfinite(asked).all():
        raise RetrievalError(
            f"{embedder.name} gave a vector of shape {asked.shape} for the question, expected "
            f"{(embedder.width,)} finite numbers"
        )
    matrix = np.frombuffer(b"".join(vectors), "<f2").reshape(-1, embedder.width).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise RetrievalError("the index holds vectors that are not finite; build it again")
    scores = matrix @ asked
    order = np.argsort(-scores, kind="stable")
    return [dataclasses.replace(found[i], score=float(scores[i])) for i in order]
