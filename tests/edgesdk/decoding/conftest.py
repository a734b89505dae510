"""A sequence over the fake backend that says a script."""

import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.kv.cell_sequence import CellSequence


@pytest.fixture
def scripted():
    def make(script, context=32, vocab_size=40):
        spec = UniformDecoder(
            "llama", vocab_size, 8, 8, 1, 1, 2, 64, (LayerSpec(None, None),), 1e-5, "silu", 1.0
        ).spec()
        shapes = [StepShape(T, 64, 1, f"t{T}") for T in (1, 8)]
        backend = FakeStepBackend(spec, shapes, script=script)
        return backend, CellSequence(backend, spec, context)

    return make
