"""The targets that a checkpoint can be converted to: one row each, what it writes and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.checkpoints.checkpoint import Checkpoint
from converters.emit.coreml.emit_coreml import emit_coreml
from converters.emit.litert.emit_litert import emit_litert
from converters.emit.onnx.resident import emit_resident
from converters.emit.onnx.step import emit_step
from converters.graph.program import Program
from converters.quantise.block_kernels import (
    COREML_BLOCKS,
    LITERT_BLOCKS,
    ONNX_BLOCKS,
    ONNX_STEP_BLOCKS,
    BlockKernels,
)
from converters.quantise.quantised_weights import QuantisedWeights
from converters.step_sizes import SMALLEST_CELLS, step_sizes
from edgesdk.bundle.manifest import CellType, DeviceClass, Format, StepShape
from edgesdk.errors import UnsupportedOption


@dataclass(frozen=True)
class EmitRequest:
    """What to emit.

    Attributes:
        checkpoint: for what stands beside the weights (tokenizer, generation defaults).
        program: prepared decoder.
        weights: its weights under the recipe.
        folder: the variant's folder.
        context: longest sequence, in tokens.
        steps: static sizes, for targets that have them.
        cell_type: of the cache, for targets that can choose.
    """

    checkpoint: Checkpoint
    program: Program
    weights: QuantisedWeights
    folder: Path
    context: int
    steps: tuple[StepShape, ...]
    cell_type: CellType = "float32"


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: as users write it.
        format: of the variant.
        device_classes: where the variant is meant to run.
        entry: main file inside the variant's folder.
        proof_backend: backend that measures parity at conversion.
        steps: static sizes for a context; empty for dynamic shapes.
        emit: writes the variant.
        blocks: which of a file's own blocks its kernels take.
    """

    name: str
    format: Format
    device_classes: tuple[DeviceClass, ...]
    entry: str
    proof_backend: str
    steps: Callable[[int], tuple[StepShape, ...]]
    emit: Callable[[EmitRequest], None]
    blocks: BlockKernels


def _litert(request: EmitRequest) -> None:
    path = request.folder / "model.tflite"
    emit_litert(
        request.program, request.weights, path, request.steps, request.context, cell_type=request.cell_type
    )


def _onnx(request: EmitRequest) -> None:
    emit_resident(
        request.program,
        request.weights,
        request.folder,
        context=request.context,
        tokenizer=request.checkpoint.tokenizer,
        generation=request.checkpoint.generation,
    )


def _onnx_step(request: EmitRequest) -> None:
    emit_step(request.program, request.weights, request.folder, request.steps, request.context)


def _few_steps(context: int) -> tuple[StepShape, ...]:
    """One file per size: an NPU compiles each for minutes, so there is one to decode and one to prefill."""
    return tuple(step for step in step_sizes(context) if step.cells == context and step.tokens in (1, 128))


def _coreml(request: EmitRequest) -> None:
    path = request.folder / "model.mlpackage"
    emit_coreml(request.program, request.weights, path, request.steps, request.context)


def _coreml_steps(context: int) -> tuple[StepShape, ...]:
    """One function per size, to decode, to verify drafts and to prefill, for short and for full caches.

    Core ML specialises every function that an app uses for its units, seconds to minutes at first use, and
    each adds half a megabyte of program, so S has two sizes instead of octaves.
    """
    cells = (SMALLEST_CELLS, context) if context > SMALLEST_CELLS else (context,)
    return tuple(step for step in step_sizes(context) if step.cells in cells and step.tokens in (1, 8, 128))


TARGETS = (
    Target(
        "litert",
        "litert",
        ("cpu", "gpu", "npu"),
        "model.tflite",
        "litert",
        step_sizes,
        _litert,
        LITERT_BLOCKS,
    ),
    Target(
        "onnx", "onnx-resident", ("cpu", "gpu"), "model.onnx", "onnxruntime", lambda _: (), _onnx, ONNX_BLOCKS
    ),
    Target(
        "onnx-step",
        "onnx-step",
        ("npu", "cpu"),
        "",
        "onnxruntime-step",
        _few_steps,
        _onnx_step,
        ONNX_STEP_BLOCKS,
    ),
    Target(
        "coreml",
        "coreml",
        ("npu", "gpu", "cpu"),
        "model.mlpackage/Manifest.json",
        "coreml-interpreter",
        _coreml_steps,
        _coreml,
        COREML_BLOCKS,
    ),
)


def find_targets(names: Sequence[str]) -> tuple[Target, ...]:
    """Targets by name, in the order of `TARGETS`.

    Raises:
        UnsupportedOption: there is no target of that name, or none is named.
    """
    known = {target.name: target for target in TARGETS}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"target {unknown[0]!r} is unknown" if unknown else "no target is named"
        raise UnsupportedOption(f"{what}; expected {', '.join(known)}")
    return tuple(target for target in TARGETS if target.name in names)
