"""Opens LiteRT variants, by either of the two ways that there are."""

from __future__ import annotations

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.check_variant import checked, checked_beside
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.gpu_library import refusal
from edgesdk.backends.litert.host_memory import supported
from edgesdk.backends.litert.interpreter import InterpreterStepBackend, Package
from edgesdk.backends.litert.prove_library import TESTED, refusal_of_library
from edgesdk.backends.litert.weight_cache import open_weight_cache
from edgesdk.backends.opened import Opened, OpenRequest
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_shape import smallest_step
from edgesdk.errors import DeviceError
from edgesdk.version import package_version

_FLOAT_ROWS = "the GPU keeps activations in floating point, where the CPU's int8 kernels round them"
_RESIZED = "its S varies, which no GPU takes; convert with --target litert-static"
# LiteRT 2.3 aborts the process while it compiles them.
_BLOCKS = "LiteRT's GPU accelerator has no weights in blocks; convert with a recipe of one scale a row"
_COPIES = "cells are copied on every step, which costs time; the litert backend does without"


@checked_beside
def open_compiled(request: OpenRequest) -> Opened:
    """Opens a variant with CompiledModel.

    Raises:
        BundleError: a file was found damaged meanwhile.
        DeviceError: LiteRT is missing or refuses it.
    """
    bundle, variant = request.bundle, request.variant
    path = bundle.file(variant.entry)
    # What is known without a trial is said by the backend.
    reason = None if supported() or refusal() else refusal_of_library(request)
    if reason is not None:
        raise DeviceError(f"LiteRT cannot run {variant.name!r}: {reason}")
    cache = open_weight_cache(bundle.manifest.files[variant.entry].sha256, path, request.expect_whole)
    backend = CompiledStepBackend(
        path,
        step_contracts(bundle.manifest, variant),
        variant.steps,
        threads=request.threads,
        weight_cache=cache,
    )
    notes: tuple[str, ...] = () if cache.note is None else (cache.note,)
    installed = package_version("ai-edge-litert")
    if not installed.startswith(TESTED):
        notes += (f"ai-edge-litert {installed} is not among the tested versions; a trial run found it right",)
    return Opened(backend, "XNNPACK", backend.accelerated_share, cache.state, notes)


@checked
def open_compiled_on_gpu(request: OpenRequest) -> Opened:
    """Opens a variant with CompiledModel on the GPU, all of it or not at all.

    Raises:
        DeviceError: LiteRT is missing, finds no GPU, or leaves an operation to the CPU; or the file has a
            variable S, or weights in blocks.
    """
    bundle, variant = request.bundle, request.variant
    if len({step.signature for step in variant.steps}) < len(variant.steps):
        raise DeviceError(f"{variant.name!r} does not run on a GPU: {_RESIZED}")
    if any(record.block is not None for record in variant.weights):
        raise DeviceError(f"{variant.name!r} does not run on a GPU: {_BLOCKS}")
    backend = CompiledStepBackend(
        bundle.file(variant.entry),
        step_contracts(bundle.manifest, variant),
        variant.steps,
        threads=request.threads,
        weight_cache=None,
        device="gpu",
    )
    if backend.accelerated_share != 1.0:
        backend.close()
        raise DeviceError(f"LiteRT's GPU accelerator does not take every operation of {variant.name!r}")
    return Opened(backend, "LiteRT GPU", 1.0, notes=(_FLOAT_ROWS,))


@checked
def open_interpreter(request: OpenRequest) -> Opened:
    """Opens a variant with LiteRT's classic interpreter.

    Raises:
        DeviceError: LiteRT is missing or refuses it.
    """
    return _interpreter(request, "ai_edge_litert")


@checked
def open_tflite_runtime(request: OpenRequest) -> Opened:
    """Opens a variant with tflite-runtime, the last resort of boards without LiteRT.

    Raises:
        DeviceError: tflite-runtime is missing or refuses it.
    """
    return _interpreter(request, "tflite_runtime")


def _interpreter(request: OpenRequest, package: Package) -> Opened:
    bundle, variant = request.bundle, request.variant
    if package == "tflite_runtime" and variant.cell_type == "float16":
        raise DeviceError("tflite-runtime multiplies no float16 cells; convert with --cells float32")
    backend = InterpreterStepBackend(
        bundle.file(variant.entry),
        step_contracts(bundle.manifest, variant),
        variant.steps,
        threads=request.threads,
        package=package,
    )
    if variant.cell_type == "float16":
        _try_half_cells(backend, package)
    return Opened(backend, "XNNPACK", notes=(_COPIES,))


def _try_half_cells(backend: InterpreterStepBackend, package: Package) -> None:
    """Runs the smallest step: versions before 2.2 read float16 cells and fail when they multiply them."""
    shape = smallest_step(backend.shapes)
    arrays = backend.buffers(shape)
    arrays.mask[:, -1:] = 0  # the token sees itself; what it reads in the cells are zeros
    cells = allocate_cells(backend.contracts[shape.stack].groups, shape.cells)
    try:
        backend.run(shape, cells)
    except DeviceError as error:
        backend.close()
        found = f"{package} {package_version(package.replace('_', '-'))}"
        raise DeviceError(
            f"{found} cannot multiply float16 cells: upgrade it, or convert with --cells float32"
        ) from error
