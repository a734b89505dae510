"""Vectors beside a reference's, their gate, and the file that carries the reference."""

import numpy as np
import pytest

from edgesdk.bundle.vector_parity import VectorFigures, VectorParity
from edgesdk.errors import BundleError
from edgesdk.evaluation.vector_agreement import compare_vectors, misses_vector_gate
from edgesdk.evaluation.vector_probe import VectorProbe, read_vector_probe, write_vector_probe

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((12, 8)).astype(np.float32)
LENGTHS = range(1, 13)


def test_the_same_vectors_agree_whatever_their_length():
    found = compare_vectors(VECTORS * 3, VECTORS, LENGTHS)
    assert (found.texts, found.longest_tokens, found.order_agreement) == (12, 12, 1.0)
    assert found.cosine_least == pytest.approx(1)


def test_order_sees_what_a_cosine_does_not():
    """A part that all vectors share hides that the rest is of other texts."""
    shared = 100 * np.ones(8)
    found = compare_vectors(shared + VECTORS[::-1], shared + VECTORS, LENGTHS)
    assert found.cosine_least > 0.99
    assert 0.3 < found.order_agreement < 0.7


def test_order_counts_triples():
    reference = np.array([[1, 0], [0.9, 0.1], [0, 1]])
    swapped = reference[[0, 2, 1]]
    assert compare_vectors(swapped, reference, [1, 1, 1]).order_agreement == 0
    assert compare_vectors(reference[[1, 0, 2]], reference, [1, 1, 1]).order_agreement == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("least", "order", "miss"),
    [
        (0.99, 0.95, None),
        (0.97, 0.95, "least cosine"),
        (0.99, 0.8, "order"),
        (float("nan"), 1, "least cosine"),
    ],
)
def test_gates(least, order, miss):
    figures = VectorFigures(12, 12, 1.0, least, order)
    recorded = VectorParity("litert", figures, 0.98, 0.9)
    found = misses_vector_gate(figures, recorded)
    assert found is None if miss is None else miss in found


@pytest.fixture
def probe():
    texts = tuple(RNG.integers(0, 50, n).astype(np.int32) for n in (3, 1, 4))
    return VectorProbe(texts, VECTORS[:3])


def test_a_probe_comes_back(tmp_path, probe):
    path = tmp_path / "parity.npz"
    write_vector_probe(path, probe)
    found = read_vector_probe(path, 50, 8)
    np.testing.assert_array_equal(found.vectors, probe.vectors)
    assert [text.tolist() for text in found.texts] == [text.tolist() for text in probe.texts]


@pytest.mark.parametrize(("vocab_size", "width", "what"), [(10, 8, "token ids"), (50, 7, "vectors")])
def test_a_probe_of_another_model_is_refused(tmp_path, probe, vocab_size, width, what):
    path = tmp_path / "parity.npz"
    write_vector_probe(path, probe)
    with pytest.raises(BundleError, match=what):
        read_vector_probe(path, vocab_size, width)


def test_damaged_probes_are_refused(tmp_path, probe):
    path = tmp_path / "parity.npz"
    for wrong, what in (
        (VectorProbe(probe.texts[:2], probe.vectors[:2]), "lengths"),
        (VectorProbe(probe.texts, np.full_like(probe.vectors, np.nan)), "vectors"),
    ):
        write_vector_probe(path, wrong)
        with pytest.raises(BundleError, match=what):
            read_vector_probe(path, 50, 8)
    path.write_bytes(b"no archive")
    with pytest.raises(BundleError, match="no parity probe"):
        read_vector_probe(path, 50, 8)
