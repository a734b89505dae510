"""Backends without int8 cells say so by name, before and at a step."""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.protocol import Int8Cells
from edgesdk.backends.registry import BACKENDS
from edgesdk.errors import DeviceError

OTHERS = [backend for backend in BACKENDS if backend.format != "litert"]


@pytest.mark.parametrize("backend", OTHERS, ids=[backend.name for backend in OTHERS])
def test_a_variant_with_int8_cells_is_refused(backend, onnx_bundle):
    name = "step" if backend.format == "onnx-step" else "resident"
    variant = dataclasses.replace(onnx_bundle.bundle.variant(name), cell_type="int8")
    with pytest.raises(DeviceError, match=f"has no int8 cells, which variant '{name}' needs"):
        backend.open(OpenRequest(onnx_bundle.bundle, variant, 1))


def test_int8_cells_are_refused(onnx_bundle):
    bundle = onnx_bundle.bundle
    variant = bundle.variant("step")
    cells = Int8Cells(np.zeros((2, 2, 2, 48, 16), np.int8), np.zeros((2, 2, 2, 48), np.float32))
    step = OnnxStepBackend(bundle, variant, threads=1)
    fake = FakeStepBackend(bundle.manifest.decoder, variant.steps)
    for backend, name in ((step, "onnxruntime-step"), (fake, "the fake backend")):
        with pytest.raises(DeviceError, match=f"{name} reads cells in float32 only, found int8"):
            backend.run(variant.steps[0], cells)
