"""Where the time of one step goes on this machine: by operation, by layer, beside the bytes it must read.

It opens a variant twice: as `load` does, for the time of an undisturbed step, and again with the backend's
own profiler. It knows LiteRT and ONNX Runtime on the CPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.onnxruntime_resident import open_resident
from edgesdk.backends.onnxruntime_step import open_step
from edgesdk.backends.opened import OpenRequest
from edgesdk.backends.protocol import Cells, Int, SequenceBackend, StepBackend, StepBuffers
from edgesdk.backends.registry import first_backend
from edgesdk.bundle.integrity import check_integrity
from edgesdk.bundle.manifest import Format, StepShape, Variant
from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.bundle.step_contract import StepContract, step_contract
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.devices.bandwidth import measure_bandwidth
from edgesdk.devices.cpu import count_threads
from edgesdk.errors import CapacityError, DeviceError, UnsupportedOption, quoted
from edgesdk.evaluation.profile_litert import Profiled, profile_litert
from edgesdk.evaluation.profile_onnx import profile_resident, profile_step_file
from edgesdk.evaluation.step_profile import StepProfile

FORMATS: tuple[Format, ...] = ("litert", "onnx-resident", "onnx-step")
"""What can be profiled, on the backend that is tried first for it."""


def profile_step(
    path: str | Path,
    *,
    variant: str | None = None,
    backend: str | None = None,
    tokens: int = 1,
    cells: int = 512,
    repeat: int = 20,
    threads: int | None = None,
) -> StepProfile:
    """Profiles one step of a bundle.

    Args:
        path: the bundle's folder.
        variant: name of a variant; None for the first that can be profiled here.
        backend: `litert`, `onnxruntime` or `onnxruntime-step`; None for any.
        tokens: T, new tokens; of static sizes the smallest that holds them.
        cells: S, tokens before them; of static sizes the smallest that holds them, else the largest.
        repeat: runs, timed and profiled.
        threads: CPU threads; None for every core that this process may use.

    Returns:
        The profile.

    Raises:
        UnsupportedOption: a count is below 1, nothing of that name can be profiled, or the model gives states
            only.
        CapacityError: the step does not fit.
        DeviceError: the backend failed, or has no profiler here.
    """
    for name, count in (("tokens", tokens), ("cells", cells), ("repeat", repeat)):
        if count < 1:
            raise UnsupportedOption(f"{name} is {count}, expected at least 1")
    counted = count_threads(threads)
    bundle = open_bundle(path)
    expect_causal(bundle.manifest.decoder)
    check_integrity(bundle)
    notes: list[str] = []
    *others, last = _suited(bundle, variant, backend)
    for chosen in others:
        try:
            found = _profile(OpenRequest(bundle, chosen, counted), tokens, cells, repeat)
            break
        except DeviceError as error:
            notes.append(f"{chosen.name} is passed over: {error}")
    else:
        found = _profile(OpenRequest(bundle, last, counted), tokens, cells, repeat)
    return replace(found, notes=(*notes, *found.notes))


def _profile(request: OpenRequest, tokens: int, asked_cells: int, repeat: int) -> StepProfile:
    """Profiles one variant."""
    bundle, chosen = request.bundle, request.variant
    bandwidth = measure_bandwidth(request.threads)
    if chosen.format == "onnx-resident":
        tokens, cells, step_us, found = _resident(request, tokens, asked_cells, repeat)
    else:
        shape = pick_shape(chosen, tokens, asked_cells)
        tokens, cells = shape.tokens, shape.cells
        step_us, found = _static(request, shape, repeat)
    fewer = () if cells >= asked_cells else (f"{cells} cells are the most there are, not {asked_cells}",)
    weight_bytes = sum(op.weight_bytes for op in found.operations)
    cell_bytes = _cell_bytes(request, cells)
    floor_us = (weight_bytes + cell_bytes) / bandwidth * 1e6
    return StepProfile(
        bundle=bundle.manifest.name,
        variant=chosen.name,
        backend=_profiled()[chosen.format],
        threads=request.threads,
        tokens=tokens,
        cells=cells,
        repeat=repeat,
        step_us=step_us,
        profiled_us=found.run_us,
        unattributed_us=found.run_us - sum(op.duration_us for op in found.operations),
        operations=found.operations,
        weight_bytes=weight_bytes,
        cell_bytes=cell_bytes,
        bandwidth_bytes_per_s=bandwidth,
        floor_us=floor_us,
        roofline_share=floor_us / step_us,
        notes=(*fewer, *found.notes),
    )


def pick_shape(variant: Variant, tokens: int, cells: int) -> StepShape:
    """The smallest size for so many tokens, and of its cells the smallest that hold so many.

    Raises:
        CapacityError: no size has so many tokens.
    """
    main = [shape for shape in variant.steps if shape.stack == MAIN]
    holding = [shape for shape in main if shape.tokens >= tokens]
    if not holding:
        most = max((shape.tokens for shape in main), default=0)
        raise CapacityError(
            f"{tokens} tokens do not fit a step of {variant.name}, which holds {most} at most"
        )
    fewest = min(shape.tokens for shape in holding)
    ordered = sorted((s for s in holding if s.tokens == fewest), key=lambda s: (s.cells, s.rows))
    return next((shape for shape in ordered if shape.cells >= cells), ordered[-1])


def _profiled() -> dict[Format, str]:
    """Names of the backends that are profiled, by format."""
    first = {found: first_backend(found) for found in FORMATS}
    return {found: backend.name for found, backend in first.items() if backend is not None}


def _suited(bundle: Bundle, name: str | None, backend: str | None) -> list[Variant]:
    """Variants of a format that can be profiled, in the order of the bundle."""
    profiled = _profiled()
    if backend is not None and backend not in profiled.values():
        raise UnsupportedOption(
            f"backend {quoted(backend)} cannot be profiled; expected {', '.join(profiled.values())}"
        )
    wanted = (bundle.variant(name),) if name is not None else bundle.manifest.variants
    found = []
    for variant in wanted:
        able = profiled.get(variant.format)
        if able is not None and backend in (None, able):
            found.append(variant)
    if not found:
        formats = ", ".join(sorted({variant.format for variant in wanted}))
        raise UnsupportedOption(
            f"nothing to profile: found the formats {formats}, expected {', '.join(profiled)}"
            + (f" for {backend}" if backend else "")
        )
    return found


def _static(request: OpenRequest, shape: StepShape, repeat: int) -> tuple[float, Profiled]:
    """Median microseconds of a step, and its profile."""
    bundle, variant = request.bundle, request.variant
    is_litert = variant.format == "litert"
    model = (open_compiled if is_litert else open_step)(request).model
    if isinstance(model, SequenceBackend):
        raise DeviceError(f"{variant.name} keeps a cache of its own, expected a step")
    cells = _new_cells(model.contracts[shape.stack], shape.cells)
    try:
        arrays = _fill(model, request, shape)
        step_us = _median_us(lambda: model.run(shape, cells), repeat)
        if is_litert:
            return step_us, profile_litert(request, shape, arrays, cells, repeat)
        folder = variant.entry.rpartition("/")[0]
        file = bundle.file(f"{folder}/{shape.signature}.onnx")
        contract = model.contracts[shape.stack]
        return step_us, profile_step_file(file, request.threads, contract, arrays, cells, repeat)
    finally:
        model.close()


def _resident(request: OpenRequest, tokens: int, cells: int, repeat: int) -> tuple[int, int, float, Profiled]:
    """T, S, median microseconds of a step, and its profile."""
    context = request.variant.context
    if tokens >= context:
        raise CapacityError(f"{tokens} tokens do not fit the context of {context} with any before them")
    cells = min(cells, context - tokens)
    prompt, new = _spread(request, cells), _spread(request, tokens)
    model = open_resident(request).model
    if not isinstance(model, SequenceBackend):
        raise DeviceError(f"{request.variant.name} runs steps, expected a cache of its own")
    sequence = model.new_sequence()

    def step() -> None:
        sequence.extend(new)
        sequence.truncate(cells)

    try:
        sequence.extend(prompt)
        step_us = _median_us(step, repeat)
    finally:
        sequence.close()
        model.close()
    return tokens, cells, step_us, profile_resident(request, prompt, new, repeat)


def _median_us(step: Callable[[], None], repeat: int) -> float:
    """Of `repeat` runs after one that sets up."""
    step()
    took = []
    for _ in range(repeat):
        started = time.perf_counter()
        step()
        took.append((time.perf_counter() - started) * 1e6)
    return statistics.median(took)


def _fill(model: StepBackend, request: OpenRequest, shape: StepShape) -> StepBuffers:
    """Inputs of a step after S tokens: every token sees all cells and the tokens before it."""
    arrays = model.buffers(shape)
    T, S = shape.tokens, shape.cells
    arrays.tokens[:] = _spread(request, T)
    # The last positions there are, where S fills the context.
    arrays.positions[:] = np.arange(T) + min(S, request.variant.context - T)
    for mask in (arrays.mask, arrays.window_mask):
        if mask is not None:
            mask[:, :S] = 0
            mask[:, S:] = np.triu(np.full((T, T), -1e9, np.float32), 1)
    arrays.rows[:] = np.arange(T - shape.rows, T)
    return arrays


def _new_cells(contract: StepContract, count: int) -> Cells:
    """Cells of random numbers; scales of int8 ones are such that values stay within 1."""
    rng = np.random.default_rng(0)
    cells = allocate_cells(contract.groups, count)
    for group, array in zip(contract.groups, cells.arrays, strict=True):
        if group.dtype == "int8":
            array[:] = rng.integers(-127, 128, array.shape, np.int8)
        else:
            array[:] = rng.standard_normal(array.shape, np.float32) if group.tail else 1 / 127
    return cells


def _cell_bytes(request: OpenRequest, cells: int) -> int:
    spec = request.bundle.manifest.decoder_of(request.variant)
    return step_contract(spec, request.variant.cell_type).cell_bytes * cells


def _spread(request: OpenRequest, count: int) -> Int:
    """Tokens over the whole vocabulary, so that embedding rows are not all in the processor's cache."""
    size = request.bundle.manifest.decoder_of(request.variant).vocab_size
    return (37 * np.arange(count, dtype=np.int64) % size).astype(np.int32)
