"""Products on two rows, run by ONNX Runtime, against the same integers times float activations."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk_converters.emit.onnx.model_file import ExternalData, OnnxModel
from edgesdk_converters.emit.onnx.resident_lowering import lower_node
from edgesdk_converters.emit.onnx.resident_state import ResidentLowering
from edgesdk_converters.graph.graph import Graph, Node, Value
from edgesdk_converters.graph.ops import Linear
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme

K, N, BLOCK, MOST = 64, 24, 32, 12
FINE = 1 / 100
"""Of a step: the second row is rounded to 127 parts of half a step. One row alone loses up to half a step."""


class OneMatrix:
    """Weights with the one name `w`."""

    def __init__(self):
        self._matrix = np.random.default_rng(3).normal(size=(N, K)).astype(np.float32)

    def __iter__(self):
        return iter(["w"])

    def shape(self, name):
        return self._matrix.shape

    def load(self, name):
        return self._matrix


class Product:
    """A model with one product, loaded; `product(x)` gives x times its matrix."""

    def __init__(self, folder, scheme, *, exact):
        activations = (ActivationRule("*"),) if exact else ()
        weights = QuantisedWeights(OneMatrix(), Recipe("one", (Rule("*", scheme),), activations=activations))
        node = Node(Linear(), ("x", "w"), ("y",))
        values = [Value("x", ("T", K)), Value("w", (N, K)), Value("y", ("T", N))]
        graph = Graph((values[0],), (values[1],), (node,), ("y",), {value.name: value for value in values})
        with ExternalData(folder / "model.data") as data:
            model = OnnxModel("one", data)
            model.input("x", "FLOAT", ["batch", "sequence", K])
            state = ResidentLowering(model, graph, weights, 16, 4, names={"x": "x"})
            lower_node(state, node)
            model.output("y", "FLOAT", ["batch", "sequence", N])
            model.save(folder / "model.onnx")
        self.matrix = weights.load("w").astype(np.float64)
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def __call__(self, x):
        return self._session.run(None, {"x": x[None]})[0][0]

    def error(self, x):
        """Largest error of each row, in steps of its widest block, times the matrix's largest sum."""
        wide = x.astype(np.float64)
        step = np.abs(wide).max(-1) / 127
        lost = np.abs(self(x) - wide @ self.matrix.T).max(-1)
        return lost / (np.maximum(step, 1e-30) * np.abs(self.matrix).sum(-1).max())


@pytest.fixture(scope="module", params=[Scheme(8, None, "round"), Scheme(4, BLOCK, "round")])
def exact(request, tmp_path_factory):
    return Product(tmp_path_factory.mktemp("two"), request.param, exact=True)


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return Product(tmp_path_factory.mktemp("one"), Scheme(8, None, "round"), exact=False)


def test_one_row_loses_far_more(fast, exact):
    x = np.random.default_rng(1).normal(size=(MOST, K)).astype(np.float32)
    assert fast.error(x).min() > 10 * exact.error(x).max()


@pytest.mark.parametrize("tokens", [1, 2, 5, MOST, 3])
def test_any_number_of_tokens_gives_every_row_its_product(exact, tokens):
    x = np.random.default_rng(tokens).normal(size=(tokens, K)).astype(np.float32)
    assert exact.error(x).max() < FINE
    alone = np.concatenate([exact(row[None]) for row in x])
    np.testing.assert_allclose(exact(x), alone, rtol=0, atol=1e-6)


ROWS = {
    "above zero": lambda rng: rng.uniform(0.5, 1, K),
    "below zero": lambda rng: -rng.uniform(0.5, 1, K),
    "one outlier": lambda rng: np.where(np.arange(K) == 7, 1000.0, rng.normal(size=K)),
    "one outlier below": lambda rng: np.where(np.arange(K) == 7, -1000.0, rng.normal(size=K)),
    "one number": lambda rng: np.where(np.arange(K) == 7, 3.0, 0.0),
    "a block of zeros": lambda rng: np.where(np.arange(K) < BLOCK, rng.normal(size=K), 0.0),
    "all the same": lambda rng: np.full(K, 0.7),
    "large": lambda rng: rng.normal(size=K) * 1e30,
    "small": lambda rng: rng.normal(size=K) * 1e-20,
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_of_every_kind(exact, kind):
    rng = np.random.default_rng(4)
    x = np.stack([ROWS[kind](rng) for _ in range(3)]).astype(np.float32)
    assert exact.error(x).max() < FINE


def test_zeros_give_zeros_and_spoil_no_other_row(exact):
    x = np.zeros((3, K), np.float32)
    x[1] = np.random.default_rng(4).normal(size=K)
    found = exact(x)
    assert (found[[0, 2]] == 0).all()
    np.testing.assert_array_equal(found[1], exact(x[1:2])[0])


@pytest.mark.parametrize("size", [1e-38, 1e-41, 1e-45])
def test_numbers_next_to_nothing_stay_so(exact, size):
    x = (np.random.default_rng(4).normal(size=(2, K)) * size).astype(np.float32)
    found = exact(x)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e-28


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, MOST),
    size=st.floats(-18, 18),
    shift=st.floats(-4, 4),
    tail=st.floats(0, 6),
)
def test_every_row_is_exact_to_a_part_of_its_step(exact, seed, tokens, size, shift, tail):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(tokens, K)) + shift) * np.exp(tail * rng.normal(size=(tokens, K)))
    x = (x * 10.0**size).astype(np.float32)
    assert exact.error(x).max() < FINE
