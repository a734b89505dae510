"""The targets that a checkpoint can be converted to: one row each, what it writes and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.adapter_record import AdapterRecord
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.manifest import AccuracyRecord, CellType, DeviceClass, Format, StepShape
from edgesdk.bundle.package_list import PACKAGE_LIST_NAME
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.emit.coreml.emit_coreml import Layout, check_layout, emit_coreml
from edgesdk_converters.emit.coreml.emit_parts import emit_parts
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.emit.litert.emit_litert import LitertOptions, check_operations, emit_litert
from edgesdk_converters.emit.onnx.npu import emit_npu
from edgesdk_converters.emit.onnx.open_step import emit_open_step
from edgesdk_converters.emit.onnx.resident import check_decoder, emit_resident
from edgesdk_converters.emit.onnx.step import check_step, emit_step
from edgesdk_converters.graph.program import Program
from edgesdk_converters.parity.raise_accuracy import TEXTS as ACCURACY_TEXTS
from edgesdk_converters.parity.raise_accuracy import raise_accuracy
from edgesdk_converters.quantise.activation_ranges import measure_ranges
from edgesdk_converters.quantise.block_kernels import (
    COREML_BLOCKS,
    LITERT_BLOCKS,
    ONNX_BLOCKS,
    ONNX_STEP_BLOCKS,
    BlockKernels,
)
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.step_sizes import (
    SMALLEST_CELLS,
    draft_sizes,
    open_sizes,
    resizable_sizes,
    static_sizes,
    whole_text_sizes,
)


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
        stacks: further stacks on the same weights with their sizes, for targets that can hold them.
        package_limit_bytes: most of one package, for targets that write packages; None for one of any size.
        texts: calibration text as token ids, for targets with `range_texts`.
        adapters: what the program's gates stand for, for targets that write a file for each.
    """

    checkpoint: Checkpoint
    program: Program
    weights: QuantisedWeights
    folder: Path
    context: int
    steps: tuple[StepShape, ...]
    cell_type: CellType = "float32"
    stacks: tuple[FurtherStack, ...] = ()
    package_limit_bytes: int | None = None
    texts: Sequence[NDArray[np.int32]] = ()
    adapters: tuple[AdapterRecord, ...] = ()


@dataclass(frozen=True)
class RefineRequest:
    """What may be improved in a variant once it can be run.

    Attributes:
        path: its main file.
        spec: the decoder.
        context: longest sequence, in tokens.
        texts: calibration text as token ids.
        accuracy: wished-for share of first choices that are those of float activations; None for none.
        say: told what happens.
    """

    path: Path
    spec: DecoderSpec
    context: int
    texts: Sequence[NDArray[np.int32]]
    accuracy: float | None
    say: Callable[[str], None]


@dataclass(frozen=True)
class Refined:
    """What was improved.

    Attributes:
        accuracy: which products compute with float activations now; None where nobody asked.
        tokens: of calibration text that were run.
    """

    accuracy: AccuracyRecord | None = None
    tokens: int = 0


def _as_written(request: RefineRequest) -> Refined:
    return Refined()


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
        check: refuses a decoder that no recipe makes fit, reading no weight.
        emit: writes the variant.
        blocks: which of a file's own blocks its kernels take.
        palettes: whether it takes weights as indices into palettes.
        exact: whether its products can read activations without loss, or always do.
        range_texts: calibration texts on which it measures how large activations get; 0 for none.
        stacks: whether its file can hold further stacks on the same weights.
        logits_only: whether its file takes tokens, gives logits, and has nothing beside them.
        adapters: whether requests can ask its file for adapters.
        draft_tokens: for how many texts at once a trained draft is written; empty where it cannot be.
        streams: whether rows of its steps can be streams.
        exits: whether its file can hold the decoder in segments beside the whole.
        whole_text: its sizes where tokens see the whole text; None where its files hold no such model.
        refine: improves what was written, where something was wished for that it can do.
    """

    name: str
    format: Format
    device_classes: tuple[DeviceClass, ...]
    entry: str
    proof_backend: str
    steps: Callable[[int], tuple[StepShape, ...]]
    check: Callable[[Program], None]
    emit: Callable[[EmitRequest], None]
    blocks: BlockKernels
    palettes: bool = False
    exact: bool = True
    range_texts: int = 0
    stacks: bool = False
    logits_only: bool = False
    adapters: bool = True
    draft_tokens: tuple[int, ...] = ()
    streams: bool = False
    exits: bool = False
    whole_text: Callable[[int], tuple[StepShape, ...]] | None = None
    refine: Callable[[RefineRequest], Refined] = _as_written

    def steps_of(self, spec: DecoderSpec, context: int) -> tuple[StepShape, ...]:
        """Sizes of a decoder, which `check_whole_text` has let pass."""
        return self.steps(context) if self.whole_text is None or spec.is_causal else self.whole_text(context)

    @property
    def raises_accuracy(self) -> bool:
        """Whether it heeds a wish for accuracy."""
        return self.refine is _raise_accuracy

    @property
    def draft_steps(self) -> tuple[StepShape, ...]:
        """Sizes of a trained draft: those of several texts are one signature where its files are resized."""
        return draft_sizes(self.draft_tokens, resized=self.name == "litert")

    @property
    def packages(self) -> bool:
        """Whether it writes Core ML packages, which a size limit can cut into several."""
        return self.format in ("coreml", "coreml-state")

    def entry_for(self, package_limit_bytes: int | None, steps: Sequence[StepShape]) -> str:
        """The main file inside the variant's folder."""
        if self.packages and package_limit_bytes is not None:
            return PACKAGE_LIST_NAME
        return self.entry or f"{steps[0].signature}.onnx"


def _litert(request: EmitRequest, *, channel_scales: bool = True) -> None:
    path = request.folder / "model.tflite"
    emit_litert(
        request.program,
        request.weights,
        path,
        request.steps,
        request.context,
        request.stacks,
        LitertOptions(request.cell_type, channel_scales),
    )


def _litert_static(request: EmitRequest) -> None:
    """For old boards too, where a product's own scales give zeros (docs/decisions/0003)."""
    _litert(request, channel_scales=False)


def _onnx(request: EmitRequest) -> None:
    emit_resident(
        request.program,
        request.weights,
        request.folder,
        context=request.context,
        tokenizer=request.checkpoint.tokenizer,
        generation=request.checkpoint.generation,
        adapters=request.adapters,
    )


def _raise_accuracy(request: RefineRequest) -> Refined:
    """Raises products to float activations, on other texts than those whose first are taken elsewhere."""
    if request.accuracy is None:
        return Refined()
    texts = request.texts[-ACCURACY_TEXTS:]
    record = raise_accuracy(request.path, request.spec, request.context, texts, request.accuracy, request.say)
    return Refined(record, sum(len(text) for text in texts))


def _onnx_step(request: EmitRequest) -> None:
    emit_step(
        request.program, request.weights, request.folder, request.steps, request.context, request.stacks
    )


def _openvino(request: EmitRequest) -> None:
    emit_open_step(request.program, request.weights, request.folder, request.steps, request.context)


def _onnx_npu(request: EmitRequest) -> None:
    program = replace(request.program, weights=request.weights)
    ranges = measure_ranges(program, request.texts)
    emit_npu(request.program, request.weights, request.folder, request.steps, request.context, ranges)


def _decoding_steps(context: int) -> tuple[StepShape, ...]:
    """To decode for several and to judge drafts, too: a size is a graph of 0.3 MB, opened when it is used."""
    return static_sizes(context, (1, 4, 8, 16, 128), decoded=16)


def _few_steps(context: int) -> tuple[StepShape, ...]:
    """One file per size: an NPU compiles each for minutes, so there is one to decode and one to prefill."""
    return static_sizes(context, (1, 128))


def _coreml(request: EmitRequest, layout: Layout = "cells") -> None:
    program, weights, steps, context = request.program, request.weights, request.steps, request.context
    if request.package_limit_bytes is None:
        emit_coreml(program, weights, request.folder / "model.mlpackage", steps, context, layout)
    else:
        emit_parts(program, weights, request.folder, steps, context, layout, request.package_limit_bytes)


def _coreml_state(request: EmitRequest) -> None:
    _coreml(request, "state")


def _coreml_state_steps(context: int) -> tuple[StepShape, ...]:
    """Functions that share states have one S, and a step writes all of its T cells."""
    return static_sizes(context, (tokens for tokens in (1, 8, 128) if tokens <= context))


def _compiled_steps(context: int) -> tuple[StepShape, ...]:
    """A graph per size, to decode, to verify drafts and to prefill, for short and for full caches.

    What is compiled for a GPU or a neural engine takes seconds to minutes per graph at first use (and half a
    megabyte each in Core ML), so S has two sizes.
    """
    return static_sizes(context, (1, 8, 128), (SMALLEST_CELLS,))


TARGETS = (
    Target(
        "litert",
        "litert",
        ("cpu",),
        "model.tflite",
        "litert",
        resizable_sizes,
        check_operations,
        _litert,
        LITERT_BLOCKS,
        stacks=True,
        draft_tokens=(1, 2, 4, 8, 16),
        streams=True,
        exits=True,
        whole_text=whole_text_sizes,
    ),
    Target(
        "litert-static",
        "litert",
        ("gpu", "npu", "cpu"),
        "model.tflite",
        "litert",
        _compiled_steps,
        check_operations,
        _litert_static,
        LITERT_BLOCKS,
        exact=False,
        draft_tokens=(1, 8),
        streams=True,
    ),
    Target(
        "onnx",
        "onnx-resident",
        ("cpu", "gpu"),
        "model.onnx",
        "onnxruntime",
        lambda _: (),
        check_decoder,
        _onnx,
        ONNX_BLOCKS,
        logits_only=True,
        refine=_raise_accuracy,
    ),
    Target(
        "onnx-step",
        "onnx-step",
        ("npu", "gpu", "cpu"),
        "",
        "onnxruntime-step",
        _decoding_steps,
        check_step,
        _onnx_step,
        ONNX_STEP_BLOCKS,
        draft_tokens=(1, 8),
        streams=True,
        exits=True,
    ),
    Target(
        "openvino",
        "onnx-step",
        ("cpu", "gpu"),
        "",
        "onnxruntime-step",
        open_sizes,
        check_step,
        _openvino,
        ONNX_STEP_BLOCKS,
    ),
    Target(
        "onnx-npu",
        "onnx-step",
        ("npu", "cpu"),
        "",
        "onnxruntime-step",
        _few_steps,
        check_step,
        _onnx_npu,
        ONNX_STEP_BLOCKS,
        exact=False,
        range_texts=2,  # the largest values are the same in every text
    ),
    Target(
        "coreml",
        "coreml",
        ("npu", "gpu", "cpu"),
        "model.mlpackage/Manifest.json",
        "coreml-interpreter",
        _compiled_steps,
        partial(check_layout, layout="cells"),
        _coreml,
        COREML_BLOCKS,
        palettes=True,
    ),
    Target(
        "coreml-state",
        "coreml-state",
        ("npu", "gpu", "cpu"),
        "model.mlpackage/Manifest.json",
        "coreml-state-interpreter",
        _coreml_state_steps,
        partial(check_layout, layout="state"),
        _coreml_state,
        COREML_BLOCKS,
        palettes=True,
        logits_only=True,
        adapters=False,
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
