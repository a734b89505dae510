"""Backends that read float32 cells only say so by name, before and at a step."""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.protocol import Cells
from edgesdk.backends.registry import BACKENDS
from edgesdk.errors import DeviceError

OTHERS = [backend for backend in BACKENDS if backend.format != "litert"]


@pytest.mark.parametrize("kind", ["int8", "float16"])
@pytest.mark.parametrize("backend", OTHERS, ids=[backend.name for backend in OTHERS])
def test_a_variant_with_other_cells_is_refused(backend, onnx_bundle, kind):
    name = "step" if backend.format == "onnx-step" else "resident"
    variant = dataclasses.replace(onnx_bundle.bundle.variant(name), cell_type=kind)
    with pytest.raises(DeviceError, match=f"has no {kind} cells, which variant '{name}' needs"):
        backend.open(OpenRequest(onnx_bundle.bundle, variant, 1))


def test_a_variant_of_sizes_without_any_is_refused(onnx_bundle):
    bundle = onnx_bundle.bundle
    for kind in ("litert", "onnx-step", "coreml", "coreml-state", "onnx-context"):
        variant = dataclasses.replace(bundle.variant("step"), format=kind, steps=())
        with pytest.raises(DeviceError, match="variant 'step' has no step sizes; convert the bundle again"):
            OpenRequest(bundle, variant, 1)
    assert not OpenRequest(bundle, bundle.variant("resident"), 1).variant.steps


SHAPE = (2, 2, 2, 48, 16)
CELLS = {
    "int8": Cells((np.zeros(SHAPE, np.int8), np.zeros(SHAPE[:-1], np.float32))),
    "float16": Cells((np.zeros(SHAPE, np.float16),)),
}


@pytest.mark.parametrize("kind", CELLS)
def test_other_cells_are_refused(onnx_bundle, kind):
    bundle = onnx_bundle.bundle
    variant = bundle.variant("step")
    step = OnnxStepBackend(bundle, variant, threads=1)
    fake = FakeStepBackend(bundle.manifest.decoder, variant.steps)
    for backend, name in ((step, "onnxruntime-step"), (fake, "the fake backend")):
        with pytest.raises(DeviceError, match=f"{name} reads float32 cells, found {kind}"):
            backend.run(variant.steps[0], CELLS[kind])
