"""A small package of two functions, as the emitter writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgesdk.bundle.decoder_block import RotarySpec
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder

pytest.importorskip("coremltools", reason="needs the extra 'coreml'")

ROTARY = RotarySpec("default", 10000.0, 16)
SPEC = UniformDecoder(
    architecture="tiny",
    vocab_size=64,
    hidden_size=32,
    ffn_size=64,
    heads=4,
    kv_heads=2,
    head_size=16,
    context=24,
    layers=(LayerSpec(None, ROTARY),),
    norm_eps=1e-5,
    activation="silu",
    attention_scale=0.25,
).spec()
STEPS = (StepShape(1, 24, 1, "step_1"), StepShape(4, 24, 2, "step_4"))


class RandomWeights:
    """Normal numbers, small enough for logits of about 1."""

    def __init__(self, shapes):
        self._shapes = shapes

    def __iter__(self):
        return iter(self._shapes)

    def shape(self, name):
        return self._shapes[name]

    def load(self, name):
        shape = self._shapes[name]
        return (np.random.default_rng(len(name)).standard_normal(shape) * shape[-1] ** -0.5).astype(
            np.float32
        )


@pytest.fixture
def spec():
    return SPEC


@pytest.fixture
def steps():
    return STEPS


@pytest.fixture
def inputs():
    """Inputs of `step_4`: one new token after nothing, padded."""
    cells = np.zeros((2, 24, 16), np.float32)
    mask = np.full((4, 28), -30000, np.float32)
    mask[np.arange(4), 24 + np.arange(4)] = 0
    return {
        "tokens": np.array([5, 9, 9, 5], np.int32),
        "positions": np.zeros(4, np.int32),
        "mask": mask,
        "rows": np.array([0, 1], np.int32),
        "k_cache_0": cells,
        "v_cache_0": cells,
    }


@pytest.fixture(scope="session")
def write_package(tmp_path_factory):
    """Writes packages of the tiny model, with int4 weights unless told, in any sizes and either layout."""
    from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml
    from edgesdk_converters.graph.decoder import build_decoder
    from edgesdk_converters.graph.program import Program
    from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
    from edgesdk_converters.quantise.recipe import find_recipe

    def write(steps, layout="cells", recipe="w4b32-round") -> Path:
        graph = build_decoder(SPEC)
        base = RandomWeights({v.name: tuple(int(d) for d in v.shape) for v in graph.weights})
        weights = QuantisedWeights(base, find_recipe(recipe))
        path = tmp_path_factory.mktemp("coreml") / "model.mlpackage"
        emit_coreml(Program(SPEC, graph, weights), weights, path, steps, 24, layout)
        return path

    return write


@pytest.fixture(scope="session")
def written(write_package) -> Path:
    """The package; int4 weights."""
    return write_package(STEPS)


@pytest.fixture
def package(written, tmp_path) -> Path:
    """A copy of the package that may be damaged."""
    import shutil

    return Path(shutil.copytree(written, tmp_path / "model.mlpackage"))
