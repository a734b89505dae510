"""Packages written by the emitter, read back by the interpreter."""

import numpy as np
import pytest

from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from tests.converters.conftest import SPECS

pytest.importorskip("coremltools", reason="needs the extra 'coreml'")


@pytest.fixture(params=sorted(set(SPECS) - {"convolutions"}))
def any_program(request, make_program):
    """A program of every kind that Core ML takes, in turn."""
    return make_program(request.param)


@pytest.fixture
def quantise():
    """A prepared program whose weights are what the recipe makes of them."""

    def run(program, recipe):
        prepared = prepare(program, find_recipe(recipe))
        weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
        return Program(prepared.spec, prepared.graph, weights)

    return run


@pytest.fixture
def random_step():
    """Inputs of one step with any masks at all: trees of drafts, forgotten cells, other sequences."""

    def make(spec, step: StepShape):
        random = np.random.default_rng(3)
        T, S, R = step.tokens, step.cells, step.rows

        def mask():
            seen = random.random((T, S + T)) < 0.6
            seen[:, S] = True
            return np.where(seen, np.float32(0), np.float32(-1e9))

        inputs = {
            "tokens": random.integers(0, spec.vocab_size, T).astype(np.int32),
            "positions": random.integers(0, 60, T).astype(np.int32),
            "mask": mask(),
            "rows": random.integers(0, T, R).astype(np.int32),
        }
        if spec.window is not None:
            inputs["window_mask"] = mask()
        for tensor in graph_tensors(step_contract(spec)).cells:
            cells = random.standard_normal(tensor.shape(step))
            # Cells hold what float16 can hold, as those that the model itself has made.
            inputs[tensor.name] = cells.astype(np.float16).astype(np.float32)
        return inputs

    return make
