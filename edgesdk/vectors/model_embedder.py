"""A model as what gives an index its vectors: a name for its weights and form, a width, and `embed`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ModelEmbedder:
    """An `edgesdk.Embedder`; `Model.embedder` makes one.

    Attributes:
        name: of the model, its weights and the form of its vectors, so that an index knows them again.
        width: numbers of a vector.
        texts_to_vectors: the model's `embed`, with everything said but the texts.
        questions_to_vectors: the same for questions, with the words that the model wants before them.
    """

    name: str
    width: int
    texts_to_vectors: Callable[[Sequence[str]], NDArray[np.float32]]
    questions_to_vectors: Callable[[Sequence[str]], NDArray[np.float32]]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: (texts, width).

        Raises:
            UnsupportedOption, DeviceError: as `Model.embed`.
        """
        return self.texts_to_vectors(texts)

    def embed_question(self, question: str) -> NDArray[np.float32]:
        """Vector of a question, of length 1: (width,).

        Raises:
            UnsupportedOption, DeviceError: as `Model.embed`.
        """
        (vector,) = self.questions_to_vectors([question])
        return np.asarray(vector, np.float32)
