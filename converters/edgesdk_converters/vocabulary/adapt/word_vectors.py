"""Vectors of a vocabulary's tokens, learnt from texts of the language: for likeness between tokens.

No helper model is at hand offline, so vectors are those of the corpus itself, written in the new tokens:
fastText for FOCUS (300 numbers, cbow, as in its paper), word2vec of the same size where CLP takes a
helper's embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgesdk.errors import MissingExtra
from edgesdk_converters.vocabulary.adapt.initialise import Rows, VectorsOf

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SIZE = 300
_EPOCHS = 3
_BUCKETS = 100_000  # of parts of words; the library's two million take 2.4 GB


def train_vectors(engine: Tokenizer, texts: Iterable[str], *, parts: bool, seed: int) -> VectorsOf:
    """Learns vectors of the tokens of texts.

    Args:
        engine: the new tokenizer.
        texts: of the language.
        parts: whether a token's vector is also made of parts of its spelling (fastText), so that tokens which
            the texts lack have one, too.
        seed: of the training, which runs in one thread so that it can be repeated.

    Raises:
        MissingExtra: gensim is not installed.
    """
    try:
        from gensim.models import FastText, Word2Vec
    except ImportError as error:
        raise MissingExtra("gensim", "vocab") from error
    sentences = [
        engine.encode(line, add_special_tokens=False).tokens
        for text in texts
        for line in text.splitlines()
        if line.strip()
    ]
    options = {"vector_size": _SIZE, "sg": 0, "window": 5, "min_count": 1, "epochs": _EPOCHS, "workers": 1}
    model = (
        FastText(sentences, bucket=_BUCKETS, seed=seed, **options)
        if parts
        else Word2Vec(sentences, seed=seed, **options)
    ).wv

    def vectors_of(texts: Sequence[str]) -> tuple[Rows, npt.NDArray[np.bool_]]:
        there = np.array([parts or text in model.key_to_index for text in texts], bool)
        found = np.zeros((len(texts), _SIZE), np.float32)
        for place in np.flatnonzero(there).tolist():
            found[place] = model[texts[place]]
        return found, there

    return vectors_of
