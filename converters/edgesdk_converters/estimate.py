"""What a conversion will take, told before it starts: from the checkpoint's header and the options alone.

Bytes of a variant are counted weight by weight as its target stores them. Memory and time are formulas fitted
to conversions that were measured (docs/models.md, "What a conversion needs"): what is added up here is named
there. Nothing is written, nothing is fetched and no weight is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.check_whole_text import check_whole_text
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_local
from edgesdk_converters.checkpoints.stored_blocks import block_type
from edgesdk_converters.convert_options import CheckedOptions, ConvertOptions, check_options
from edgesdk_converters.emit.onnx.matrices import kernel_block
from edgesdk_converters.exit_stacks import check_exits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.plan_stages import plan_stages
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.recipe import Recipe
from edgesdk_converters.targets import Target

_MEASURED_WEIGHTS = 134.5e6
"""Of the model whose stages `plan_stages` weighs in seconds."""

# Bytes, from conversions measured by benchmarks/convert_memory.py.
_START, _PROOF_START = 66 << 20, 151 << 20  # Python and its packages, those that run models among them
_OF_TOKENIZER = 35  # for each byte of tokenizer.json, as objects
_MATRIX_COPIES = 1.7  # of the largest matrix in float32, while it is turned and rounded
_TABLE_COPIES = {"float32": 1.5, "float16": 2.0}
_KEPT_BYTES = 640 << 20  # a reference up to which answers keep it whole
_MEASURED_COPIES = 6.0  # of the largest matrix, where recipes look at activations without calibrating
_CALIBRATED_TOKENS = 8192
_BETWEEN = 2  # what gates and ups give, those apart, and their product, for each number of the first
_GRAM_BYTES = 16  # for each of its numbers: it, the same damped, its factor, and what that is made in
_PARTS_BYTES = 320 << 20  # rows that GPTQ has under way on two cores
_CALIBRATED_TABLE_COPIES = 2.2  # of a table in float32
_SCORED = 1200  # rows of logits at once: of the passages, about 550, and what is made of them
_NODE_BYTES = 500
_PROBE_BYTES = 700_000
_STATE_BYTES = 8192 * 4  # a calibration text's activations, for each channel


@dataclass(frozen=True)
class VariantEstimate:
    """One variant.

    Attributes:
        name: as the bundle will have it, cell types apart.
        size_bytes: of its files.
    """

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a conversion will take, about.

    Attributes:
        model: the checkpoint's name.
        weights: numbers in it that are converted.
        memory_bytes: resident at most, mapped pages that the system could drop among them.
        bundle_bytes: what is left on the disk.
        disk_bytes: on the disk at most, the integers of a recipe that wait for the last target among them;
            of a bundle that is replaced nothing is counted.
        seconds: on two cores of the machine whose stages were measured (AVX512-VNNI), nothing else running.
        variants: in the order in which they are written.
        notes: what the figures leave out, a line each.
    """

    model: str
    weights: int
    memory_bytes: int
    bundle_bytes: int
    disk_bytes: int
    seconds: float
    variants: tuple[VariantEstimate, ...]
    notes: tuple[str, ...] = ()


def estimate(source: str, options: ConvertOptions | None = None, *, revision: str | None = None) -> Estimate:
    """Estimates a conversion with the arguments of `convert`.

    Args:
        source: a Hugging Face directory, a `.gguf` file, or a named model that has been fetched.
        options: as for `convert`, and refused alike.
        revision: as for `convert`; sources that have one are refused, since they would be fetched.

    Raises:
        CheckpointError: the source cannot be read, or is not here.
        UnsupportedOption: as `convert`, or the source would have to be fetched.
        EmitError: a target cannot hold the decoder.
        TransformError: a recipe or exits do not suit the model.
    """
    options = options or ConvertOptions()
    checked = check_options(options)
    opened = open_local(source, revision)
    check_whole_text(opened, options, checked)
    program, checkpoint = _read(opened, options)
    for target in checked.targets:
        target.check(program)
    if options.exit_blocks:
        check_exits(program, options.exit_blocks)
    context = min(options.context, program.spec.context)
    variants: list[VariantEstimate] = []
    waiting: list[int] = []
    matrix = disk = 0
    for recipe in checked.recipes:
        prepared = prepare(program, recipe)
        matrix = max(matrix, *(math.prod(shape) for name, shape in _matrices(prepared) if name != "embed"))
        sizes = [_variant_bytes(prepared, recipe, target, context) for target in checked.targets]
        variants += [
            VariantEstimate(f"{target.name}-{recipe.name}", size)
            for target, size in zip(checked.targets, sizes, strict=True)
        ]
        waiting.append(
            sum(math.prod(shape) for name, shape in _matrices(prepared) if recipe.scheme(name) is not None)
        )
        # Integers go once the last target has them, before the next recipe makes its own.
        disk = max(disk, sum(variant.size_bytes for variant in variants) + waiting[-1])
    beside = len(checkpoint.tokenizer.tokenizer_json.encode()) + (_PROBE_BYTES if options.prove else 0)
    bundle = sum(variant.size_bytes for variant in variants) + beside
    weights = sum(math.prod(_numbers(value.shape)) for value in program.graph.weights)
    pace = weights / _MEASURED_WEIGHTS
    return Estimate(
        model=checkpoint.name,
        weights=weights,
        memory_bytes=_memory(program, checkpoint, options, checked, 4 * matrix, waiting, variants),
        bundle_bytes=bundle,
        disk_bytes=max(bundle, disk + beside),
        seconds=1 + pace * sum(s for _, s in plan_stages(options, checked.targets, checked.recipes)),
        variants=tuple(variants),
        notes=tuple(_notes(options)),
    )


def _read(checkpoint: Checkpoint, options: ConvertOptions) -> tuple[Program, Checkpoint]:
    """The decoder as it is reshaped, but for layers that a budget would choose, and its checkpoint."""
    named = replace(options.reshaping, layer_budget=None, repair_layers=None)
    checkpoint, kept = named.prune(checkpoint, lambda _: None)
    program = named.shorten(read_program(checkpoint), (), lambda _: None)
    return named.narrow(program, kept), checkpoint


def _notes(options: ConvertOptions) -> Iterator[str]:
    if options.reshaping.layer_budget is not None:
        yield "layers that a budget would leave out are counted"
    if options.budget is not None:
        yield "all matrices are counted as the recipe stores them, though a budget leaves some in int8"
    if options.shallow is not None or options.draft is not None:
        yield "a second stack or a draft is not counted"
    for name, given in (
        ("adapters", options.adapters),
        ("streams", options.streams),
        ("exits", options.exits),
    ):
        if given:
            yield f"{name} are not counted"


def _numbers(shape: tuple[object, ...]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape if isinstance(size, int))


def _matrices(program: Program) -> Iterator[tuple[str, tuple[int, ...]]]:
    for value in program.graph.weights:
        shape = _numbers(value.shape)
        if len(shape) == 2:
            yield value.name, shape


def _variant_bytes(program: Program, recipe: Recipe, target: Target, context: int) -> int:
    """Files of a variant: weights, rotary tables, and a graph for each size or signature."""
    found = sum(math.prod(_numbers(v.shape)) * 4 for v in program.graph.weights if len(v.shape) != 2)
    found += sum(_matrix_bytes(program, name, recipe, target) for name, _ in _matrices(program))
    for rotary in {layer.rotary for layer in program.spec.layers if layer.rotary is not None}:
        found += context * rotary.size * (8 if target.format == "litert" else 4)
    graphs = len({step.signature for step in target.steps_of(program.spec, context)}) or 1
    return found + graphs * len(program.graph.nodes) * _NODE_BYTES


def _matrix_bytes(program: Program, name: str, recipe: Recipe, target: Target) -> int:
    rows, columns = program.weights.shape(name)
    count, scheme = rows * columns, recipe.scheme(name)
    kind = block_type(program.weights, name) if recipe.keep_blocks else None
    kernels = target.blocks.tables if name == "embed" else target.blocks.products
    if kind is not None and not recipe.requantises(name) and (kind.bits, kind.block) in kernels:
        minimum = 2 if recipe.float_type == "float16" else 4
        scales = (2 if target.format == "litert" else 4) + minimum * target.blocks.needs_minimums(kind)
        return count * kind.bits // 8 + count // kind.block * scales
    if scheme is None:
        return count * (2 if recipe.float_type == "float16" else 4)
    if scheme.palette:
        return count * scheme.bits // 8 + rows // (scheme.rows or 1) * 16 * 4
    if target.name == "onnx":
        return count * scheme.bits // 8 + count // kernel_block(scheme, columns) * 4
    if scheme.block is not None:
        return count * scheme.bits // 8 + count // scheme.block * (4 if target.format == "onnx-step" else 2)
    return count * scheme.bits // 8 + rows * (16 if target.format == "litert" else 4)


def _memory(
    program: Program,
    checkpoint: Checkpoint,
    options: ConvertOptions,
    checked: CheckedOptions,
    matrix: int,
    waiting: list[int],
    variants: list[VariantEstimate],
) -> int:
    """Resident bytes of the stage that needs most; `matrix` are those of the largest matrix in float32."""
    spec = program.spec
    tokenizer = len(checkpoint.tokenizer.tokenizer_json.encode()) * _OF_TOKENIZER
    table = 4 * spec.vocab_size * spec.hidden_size
    writing = [
        table * _TABLE_COPIES[recipe.float_type]
        if not recipe.stores_integers
        else integers
        + matrix * (_MEASURED_COPIES if recipe.needs_data and not recipe.calibrates else _MATRIX_COPIES)
        for recipe, integers in zip(checked.recipes, waiting, strict=True)
    ]
    writing += [_calibrating(program, recipe, table) for recipe in checked.recipes if recipe.calibrates]
    texts = _STATE_BYTES * spec.hidden_size * 2 if checked.sample is not None else 0
    stages = [_START + tokenizer + max(writing) + texts]
    if options.prove:
        weights = 4 * sum(math.prod(_numbers(v.shape)) for v in program.graph.weights)
        kept = weights if weights <= _KEPT_BYTES else 0
        # What the reference keeps stays there while a variant runs: its file, and what is packed of it.
        running = 2 * max(variant.size_bytes for variant in variants)
        scored = 4 * _SCORED * spec.vocab_size if spec.is_causal else 0
        stages.append(_PROOF_START + tokenizer + kept + scored + running)
    return int(max(stages))


def _calibrating(program: Program, recipe: Recipe, table: int) -> float:
    """Bytes while matrices are calibrated: the values of all texts, and what GPTQ makes of them."""
    found = [0.0]
    for name, (rows, columns) in _matrices(program):
        scheme = recipe.scheme(name)
        if scheme is None or not scheme.needs_data:
            continue
        if name in ("embed", "head"):
            found.append(_CALIBRATED_TABLE_COPIES * table)
            continue
        stream = _CALIBRATED_TOKENS * 4 * program.spec.hidden_size
        passing = _CALIBRATED_TOKENS * 4 * _BETWEEN * rows + 4 * rows * columns
        reading = _CALIBRATED_TOKENS * 4 * columns + _GRAM_BYTES * columns**2 + _PARTS_BYTES
        found.append(stream + max(passing, reading + 4 * rows * columns))
    return max(found)
