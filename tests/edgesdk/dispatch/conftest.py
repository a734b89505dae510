"""Fake step backends, some of which fail, and a tiny bundle with two step variants."""

import threading
from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.uniform_decoder import LayerSpec, UniformDecoder
from edgesdk.dispatch.candidates import list_candidates
from edgesdk.errors import DeviceError

TINY = Path(__file__).parents[2] / "data" / "tiny"
CONTEXT = 64


def make_spec(window=None):
    layers = tuple(LayerSpec(window if i == 1 else None, None) for i in range(3))
    return UniformDecoder("llama", 50, 8, 8, 4, 2, 3, CONTEXT, layers, 1e-5, "silu", 1.0).spec()


def make_shapes(tokens=(1, 4, 16), cells=(8, 24, 64), rows=None):
    return [
        StepShape(T, S, min(T, R), f"t{T}_s{S}_r{R}")
        for T in tokens
        for S in cells
        for R in (rows or ((1,) if T == 1 else (1, T)))
    ]


class FailingBackend(FakeStepBackend):
    """Runs so many steps, then fails like a lost device, after it has spoilt its outputs."""

    def __init__(self, spec, shapes, steps, error=None):
        super().__init__(spec, shapes)
        self.left = steps
        self.error = error or DeviceError("device lost")

    def run(self, shape, cells):
        if not self.left:
            arrays = self.buffers(shape)
            arrays.logits[...] = np.nan
            for array in arrays.kv_new.arrays:
                array[...] = np.nan
            raise self.error
        self.left -= 1
        super().run(shape, cells)


@pytest.fixture
def spec():
    return make_spec


@pytest.fixture
def shapes():
    return make_shapes


@pytest.fixture
def failing():
    return FailingBackend


@pytest.fixture
def opened():
    """Waits until nothing is being opened in threads."""

    def wait():
        for thread in threading.enumerate():
            if thread.name == "edgesdk-open":
                thread.join(20)
                assert not thread.is_alive()

    return wait


@pytest.fixture
def tokens():
    return np.random.default_rng(7).integers(0, 50, CONTEXT).astype(np.int32)


@pytest.fixture(scope="session")
def tiny_steps(converted_once):
    """A float32 bundle for LiteRT, and for ONNX Runtime with steps and without."""
    targets = ("litert", "onnx", "onnx-step")
    return converted_once(TINY / "gemma3", targets=targets, recipes=("f32",), context=128, prove=False)


@pytest.fixture
def bundle(tiny_steps, tmp_path, monkeypatch):
    """The tiny bundle, with a cache of measurements of its own."""
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return open_bundle(tiny_steps)


@pytest.fixture
def candidates(bundle):
    """Every way to run it."""
    return list_candidates(bundle, find_backends("auto"))
