"""Products on two rows, run by LiteRT, against the same integers times float activations."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.bundle.manifest import StepShape
from edgesdk_converters.emit.litert.constants import weight_matrix
from edgesdk_converters.emit.litert.model_file import ModelFile, Varying
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.emit.litert.two_rows import two_rows
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import Recipe, Rule, Scheme

interpreter = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="LiteRT has no wheel for this platform"
)

K, N, MOST = 64, 24, 12
INT8 = Scheme(8, None, "round")


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


def make(path, scheme=INT8, *, exact=True):
    """A file with one product, T varying, and the matrix that its integers stand for."""
    weights = QuantisedWeights(OneMatrix(), Recipe("one", (Rule("*", scheme),)))
    model = ModelFile("one")
    graph = model.subgraph("step")
    state = Lowering(graph, None, weights, StepShape(MOST, 16, MOST, "step"), 16, frozenset("T"))
    x = graph.input("x", (Varying(MOST), K))
    options = model.schema.FullyConnectedOptionsT()
    options.keepNumDims = options.asymmetricQuantizeInputs = True
    matrix = weight_matrix(graph, weights, "w", channel_scales=True)
    shape = (Varying(MOST), N)
    version = 13 if scheme.block else 12
    if exact:
        y = two_rows(state, x, matrix, "y", shape, options, version)
    else:
        y = state.emit("FULLY_CONNECTED", [x, matrix, -1], "y", shape, options, version)
    graph.output("y", y)
    model.write(path)
    return weights.load("w").astype(np.float64)


class Product:
    """A file, loaded; `product(x)` gives x times its matrix."""

    def __init__(self, path, **options):
        self.matrix = make(path, **options)
        self._run = interpreter.Interpreter(str(path), num_threads=1)

    def __call__(self, x):
        (given,), (found,) = self._run.get_input_details(), self._run.get_output_details()
        self._run.resize_tensor_input(given["index"], x.shape)
        self._run.allocate_tensors()
        self._run.set_tensor(given["index"], x)
        self._run.invoke()
        return self._run.get_tensor(found["index"]).copy()

    def error(self, x):
        """Largest error of each row, in steps that a row is rounded to, times the matrix's largest sum."""
        wide = x.astype(np.float64)
        step = (np.maximum(wide.max(-1), 0) - np.minimum(wide.min(-1), 0)) / 255
        lost = np.abs(self(x) - wide @ self.matrix.T).max(-1)
        return lost / (np.maximum(step, 1e-30) * np.abs(self.matrix).sum(-1).max())


@pytest.fixture(scope="module", params=[(8, None), (4, None), (4, 32)], ids=["int8", "int4", "int4-blocks"])
def exact(request, tmp_path_factory):
    return Product(tmp_path_factory.mktemp("two") / "m.tflite", scheme=Scheme(*request.param, "round"))


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return Product(tmp_path_factory.mktemp("one") / "m.tflite", exact=False)


FINE = 1 / 200
"""Of a step: the second row is rounded to 255 parts of a step. One row alone loses up to half a step."""


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
