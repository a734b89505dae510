"""The parity probe of a bundle that gives states only: the reference's vectors of a few texts.

With it any device can repeat the comparison that `convert` made, without the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.vector_parity import VectorFigures
from edgesdk.errors import BundleError, first_line
from edgesdk.evaluation.probe_file import UNREADABLE, outside, read_array, read_members
from edgesdk.evaluation.vector_agreement import compare_vectors
from edgesdk.model import Model

LEAST_TEXTS = 3
"""Of which one is nearer than the other to the third."""

_NAMES = ("tokens", "lengths", "vectors")


@dataclass(frozen=True)
class VectorProbe:
    """The reference on a few texts.

    Attributes:
        texts: token ids, (n,) int32 each.
        vectors: (texts, W) float32, as the bundle pools them.
    """

    texts: tuple[NDArray[np.int32], ...]
    vectors: NDArray[np.float32]


def write_vector_probe(path: Path, probe: VectorProbe) -> None:
    """Writes a probe."""
    arrays = {
        "tokens": np.concatenate(probe.texts).astype("<i4"),
        "lengths": np.array([len(text) for text in probe.texts], "<i4"),
        "vectors": probe.vectors.astype("<f4"),
    }
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle


def read_vector_probe(path: Path, vocab_size: int, width: int) -> VectorProbe:
    """Reads a probe.

    Args:
        path: the file.
        vocab_size: V; ids must lie below.
        width: W, numbers of a vector.

    Raises:
        BundleError: the file is not a probe, or contradicts itself.
    """
    try:
        members = read_members(path, _NAMES)
        tokens = read_array(members["tokens"], np.int32, 1)
        lengths = read_array(members["lengths"], np.int32, 1).astype(np.int64)
        vectors = read_array(members["vectors"], np.float32, 2)
    except UNREADABLE as error:
        reason = first_line(error, 120)
        raise BundleError(f"{path.name} is no parity probe: {reason}; convert the bundle again") from error
    whole = len(lengths) >= LEAST_TEXTS and bool((lengths >= 1).all()) and lengths.sum() == len(tokens)
    for wrong, what in (
        (not whole, "lengths of its texts"),
        (outside(tokens, vocab_size), "token ids"),
        (vectors.shape != (len(lengths), width) or not np.isfinite(vectors).all(), "vectors"),
    ):
        if wrong:
            raise BundleError(f"{path.name} contradicts itself in the {what}; convert the bundle again")
    return VectorProbe(tuple(np.split(tokens, np.cumsum(lengths)[:-1])), vectors)


def check_vector_probe(model: Model, probe: VectorProbe) -> VectorFigures:
    """Runs a probe's texts through a model.

    Args:
        model: loaded.
        probe: from the model's bundle.

    Raises:
        BundleError: too few texts fit the model's context.
        DeviceError: the backend fails.
    """
    fitting = [i for i, text in enumerate(probe.texts) if len(text) <= model.context]
    if len(fitting) < LEAST_TEXTS:
        raise BundleError(f"the parity probe has {len(fitting)} texts for a context of {model.context}")
    texts = [probe.texts[i].tolist() for i in fitting]
    return compare_vectors(model.embed(texts), probe.vectors[fitting], [len(text) for text in texts])
