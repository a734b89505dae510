"""Step variants on a GPU through ONNX Runtime's WebGPU execution provider (package onnxruntime-webgpu).

Cells stay in host memory and are copied for every step. The resident form is not offered here: with it
the provider's GroupQueryAttention gave wrong results on the one driver it could be tried on (docs/gpu.md).
"""

from __future__ import annotations

from edgesdk.backends.check_variant import checked
from edgesdk.backends.onnxruntime_provider import Provider
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.bundle.step_shape import smallest_step

PROVIDER = Provider("WebGpuExecutionProvider", copies=True)


@checked
def open_webgpu(request: OpenRequest) -> Opened:
    """Opens a step variant, and runs its smallest size once to see what runs where.

    Raises:
        DeviceError: the provider is not there, finds no adapter, or refuses the variant.
    """
    backend = OnnxStepBackend(request.bundle, request.variant, threads=request.threads, provider=PROVIDER)
    backend.buffers(smallest_step(backend.shapes))
    share = backend.accelerated_share()
    notes = ["cells are copied to the GPU on every step"]
    if share is not None and share < 1:
        notes.append("the rest runs on the CPU, because the provider has no kernel for it")
    return Opened(backend, PROVIDER.name, share, notes=tuple(notes))
