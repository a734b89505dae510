"""Small decoders and the fake backend over them."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.step_runner import StepRunner
from edgesdk.kv.step_sizes import StepSizes

CONTEXT = 64


def make_spec(window=None, vocab_size=50, all_layers=False):
    return UniformDecoder(
        architecture="llama",
        vocab_size=vocab_size,
        hidden_size=8,
        ffn_size=8,
        heads=4,
        kv_heads=2,
        head_size=3,
        context=CONTEXT,
        layers=tuple(LayerSpec(window if all_layers or i == 1 else None, None) for i in range(3)),
        norm_eps=1e-5,
        activation="silu",
        attention_scale=1.0,
    ).spec()


def make_shapes(tokens=(1, 4, 16), cells=(8, 24, 64), rows=None):
    return [
        StepShape(T, S, R, f"t{T}_s{S}_r{R}")
        for T in tokens
        for S in cells
        for R in (rows or ((1,) if T == 1 else (1, T)))
    ]


@pytest.fixture
def build():
    def build_sequence(window=None, shapes=None, context=CONTEXT):
        backend = FakeStepBackend(make_spec(window), make_shapes() if shapes is None else shapes)
        return backend, CellSequence(backend, make_spec(window), context)

    return build_sequence


@pytest.fixture
def build_runner():
    """A runner over the fake backend, with it."""

    def build_one(window=None, shapes=None, context=CONTEXT, capacity=None, all_layers=False, **options):
        spec = make_spec(window, all_layers=all_layers)
        backend = FakeStepBackend(spec, make_shapes() if shapes is None else shapes)
        return backend, StepRunner(backend, spec, context, capacity, **options)

    return build_one


@pytest.fixture
def build_pool():
    def build_one(capacity=None, cells=(8, 24, 64)):
        return CellPool(step_contract(make_spec()), StepSizes(make_shapes(cells=cells), 8), capacity)

    return build_one


@pytest.fixture
def tokens():
    return np.random.default_rng(7).integers(0, 50, CONTEXT).astype(np.int32)


@pytest.fixture
def shapes():
    return make_shapes


@pytest.fixture
def spec():
    return make_spec
