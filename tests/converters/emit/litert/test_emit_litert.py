"""LiteRT files, run by LiteRT, against the evaluator on the very same weights."""

import dataclasses
import platform
import typing

import numpy as np
import pytest

from edgesdk.backends.aligned_array import aligned_array
from edgesdk.backends.cell_arrays import allocate_cells, cell_views
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.graph_operations import read_signature
from edgesdk.backends.litert.interpreter import InterpreterStepBackend
from edgesdk.backends.litert.operator_profiler import OperatorProfiler
from edgesdk.backends.step_buffers import StepArrays
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.bundle.step_names import has_few_columns, litert_tensors
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.draft_tree import DraftTree
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk_converters.emit.litert.emit_litert import emit_litert
from edgesdk_converters.emit.litert.lowering import LOWERINGS
from edgesdk_converters.emit.litert.model_file import ModelFile
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.activation_rule import ActivationRule
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

# T = 4 has a signature for each S, the others one for both; few tokens share one, and larger steps.
_NAMES = {1: "step_1", 2: "step_few", 8: "step_few", 16: "step_few", 24: "step_many", 32: "step_many"}
STEPS = tuple(
    sorted(
        StepShape(tokens, cells, rows, _NAMES.get(tokens, f"step_{tokens}_{cells}"))
        for tokens, rows in ((1, 1), (2, 2), (4, 4), (8, 1), (8, 8), (16, 16), (24, 2), (32, 2), (32, 32))
        for cells in (16, 64)
    )
)

# Largest difference of logits of about 1. int8 and int4 rows: LiteRT quantises activations to 8 bits.
TOLERANCE = {"f32": 2e-4, "f16": 2e-3, "w8-round": 0.15, "w4b32-round": 0.2, "w4c-round": 0.2}


def emit(program, recipe, path):
    prepared = prepare(program, find_recipe(recipe))
    weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
    emit_litert(prepared, weights, path, STEPS, 64)
    return Program(prepared.spec, prepared.graph, weights)


def open_compiled(path, spec):
    return CompiledStepBackend(path, main_stack(spec), STEPS, threads=1, weight_cache=None)


def test_every_operation_has_a_lowering():
    assert set(LOWERINGS) == set(typing.get_args(ops.Op))


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_every_feature_matches_the_evaluator(any_program, tokens, tmp_path, recipe):
    quantised = emit(any_program, recipe, tmp_path / "m.tflite")
    expected = next(sequence_logits(quantised, [tokens]))
    backend = open_compiled(tmp_path / "m.tflite", any_program.spec)
    found = CellSequence(backend, any_program.spec, 64).score(tokens)
    assert np.abs(found - expected).max() < TOLERANCE[recipe] * max(1, np.abs(expected).max())


@pytest.mark.parametrize("recipe", ["f16", "w4b32-round", "w4c-round"])
def test_every_recipe_matches_the_evaluator(make_program, tokens, tmp_path, recipe):
    program = make_program("plain")
    quantised = emit(program, recipe, tmp_path / "m.tflite")
    expected = next(sequence_logits(quantised, [tokens]))
    backend = open_compiled(tmp_path / "m.tflite", program.spec)
    found = CellSequence(backend, program.spec, 64).score(tokens)
    assert np.abs(found - expected).max() < TOLERANCE[recipe] * max(1, np.abs(expected).max())


def test_chunks_and_single_tokens_give_the_same_logits(any_program, tokens, tmp_path):
    emit(any_program, "f32", tmp_path / "m.tflite")
    backend = open_compiled(tmp_path / "m.tflite", any_program.spec)
    whole = CellSequence(backend, any_program.spec, 64).extend(tokens).copy()
    expected = next(sequence_logits(any_program, [tokens]))
    np.testing.assert_allclose(whole, expected[-1], rtol=1e-3, atol=1e-3)
    pieces = CellSequence(backend, any_program.spec, 64)
    for piece in (tokens[:3], tokens[3:4], tokens[4:21]):
        seen = pieces.length + len(piece)
        np.testing.assert_allclose(pieces.extend(piece), expected[seen - 1], rtol=1e-3, atol=1e-3)
    for token in tokens[21:]:
        last = pieces.extend(np.array([token], np.int32))
    np.testing.assert_allclose(last, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="seen on x86-64 only")
@pytest.mark.parametrize("recipe", ["f32", "w8-round", "w4b32-round"])
def test_a_token_gives_the_same_bits_whoever_shares_its_step(any_program, tokens, tmp_path, recipe):
    """One form of attention up to 16 tokens: scores by cell, columns that do not move, sums in one order."""
    emit(any_program, recipe, tmp_path / "m.tflite")
    runner = StepRunner(open_compiled(tmp_path / "m.tflite", any_program.spec), any_program.spec, 64)
    before = runner.new_list()
    runner.run([StepEntry(before, tokens[:7])])
    fork = before.fork()
    alone = np.array(runner.run([StepEntry(fork, tokens[7:8])])[0])
    fork.close()
    for count in (2, 3, 4, 8, 16):
        fork = before.fork()
        drafts = DraftTree(tokens[8 : 7 + count], np.arange(-1, count - 2, dtype=np.int32))
        (rows,) = runner.run([StepEntry(fork, tokens[7:8], "last", drafts)])
        assert np.array_equal(rows[0], alone), count
        fork.close()
        forks = [before.fork() for _ in range(count)]
        entries = [StepEntry(cells, tokens[7 + i : 8 + i]) for i, cells in enumerate(forks)]
        assert np.array_equal(runner.run(entries)[0], alone), count
        for cells in forks:
            cells.close()


def test_the_interpreter_gives_what_the_compiled_model_gives(any_program, tokens, tmp_path):
    emit(any_program, "w8-round", tmp_path / "m.tflite")
    spec = any_program.spec
    compiled = CellSequence(open_compiled(tmp_path / "m.tflite", spec), spec, 64).score(tokens)
    interpreter = InterpreterStepBackend(
        tmp_path / "m.tflite", main_stack(spec), STEPS, threads=1, package="ai_edge_litert"
    )
    found = CellSequence(interpreter, spec, 64).score(tokens)
    np.testing.assert_allclose(found, compiled, rtol=1e-4, atol=1e-4)


def test_constants_stand_once_however_many_sizes_use_them(make_program, tmp_path):
    program = make_program("plain")
    prepared = prepare(program, find_recipe("w8-round"))
    sizes = []
    for steps in (STEPS[:1], STEPS):
        weights = QuantisedWeights(prepared.weights, find_recipe("w8-round"))
        emit_litert(prepared, weights, tmp_path / "m.tflite", steps, 64)
        sizes.append((tmp_path / "m.tflite").stat().st_size)
    integers = sum(int(np.prod(v.shape)) for v in prepared.graph.weights if len(v.shape) == 2)
    assert sizes[0] > integers
    assert sizes[1] - sizes[0] < 0.9 * len(STEPS) * integers


def test_a_file_beyond_two_gigabytes_finds_its_constants_by_offset(
    make_program, tokens, tmp_path, monkeypatch
):
    program = make_program("plain")
    monkeypatch.setattr("edgesdk_converters.emit.litert.model_file._LARGEST_FLATBUFFER", 1000)
    quantised = emit(program, "w8-round", tmp_path / "m.tflite")
    backend = open_compiled(tmp_path / "m.tflite", program.spec)
    found = CellSequence(backend, program.spec, 64).score(tokens)
    expected = next(sequence_logits(quantised, [tokens]))
    assert np.abs(found - expected).max() < TOLERANCE["w8-round"] * np.abs(expected).max()


def test_the_same_buffer_is_written_once():
    model = ModelFile("test")
    data = np.arange(4, dtype=np.float32)
    first = model.buffer("a", lambda: data)
    assert model.buffer("a", lambda: data) == first
    assert model.buffer("b", lambda: data) != first


@pytest.mark.parametrize(
    "step",
    [step for step in STEPS if step.cells == 16],
    ids=lambda step: f"{step.tokens}-{step.rows}",
)
def test_xnnpack_takes_everything_but_looking_up(make_program, tmp_path, step):
    """What it refuses runs on one thread and splits the graph: sizes that vary made it refuse SLICE."""
    program = make_program("gemma_like")
    emit(program, "w8-round", tmp_path / "m.tflite")
    graph = read_signature(tmp_path / "m.tflite", step.signature)
    contracts = main_stack(program.spec)
    contract = contracts[step.stack]
    tensors = litert_tensors(contract, few=has_few_columns(graph.inputs))
    arrays = StepArrays(contracts).buffers(step)
    bound = {tensor.name: arrays.port(tensor.port.name) for tensor in tensors.ports_out}
    bound |= {
        tensor.name: aligned_array(tensor.dtype, *tensor.shape(step)) for tensor in tensors.inputs_of(step)
    }
    cells = allocate_cells(contract.groups, step.cells)
    for parts, held in ((tensors.cells, cells), (tensors.new, arrays.kv_new)):
        bound |= dict(zip([part.name for part in parts], cell_views(parts, held), strict=True))
    profiler = OperatorProfiler(tmp_path / "m.tflite", graph, bound, threads=1, weight_cache=None)
    _, events = profiler.profile()
    profiler.close()
    assert {event.tag for event in events if event.node is not None} == {"GATHER"}


@pytest.mark.parametrize("recipe", ["w8-round-exact", "w4c-round-exact"])
def test_exact_activations_are_nearly_float_ones(any_program, tokens, tmp_path, recipe):
    quantised = emit(any_program, recipe, tmp_path / "m.tflite")
    expected = next(sequence_logits(quantised, [tokens]))
    largest = max(1, np.abs(expected).max())
    backend = open_compiled(tmp_path / "m.tflite", any_program.spec)
    found = CellSequence(backend, any_program.spec, 64).score(tokens)
    assert np.abs(found - expected).max() < 0.01 * largest
    # Every kind of step: a prompt at once, and a token at a time.
    assert (
        np.abs(CellSequence(backend, any_program.spec, 64).extend(tokens) - expected[-1]).max()
        < 0.01 * largest
    )
    one = CellSequence(backend, any_program.spec, 64)
    for token, logits in zip(tokens, expected, strict=True):
        assert np.abs(one.extend(np.array([token], np.int32)) - logits).max() < 0.01 * largest


@pytest.mark.parametrize("phase", ["decode", "few", "prompt"])
def test_each_size_of_step_has_products_of_its_own_kind(make_program, tmp_path, phase):
    program, phases = make_program("plain"), dict.fromkeys(("decode", "few", "prompt"), "fast")
    rules = (ActivationRule("*.down", **{**phases, phase: "exact"}),)
    recipe = dataclasses.replace(find_recipe("w8-round"), activations=rules)
    prepared = prepare(program, recipe)
    emit_litert(prepared, QuantisedWeights(prepared.weights, recipe), tmp_path / "m.tflite", STEPS, 64)
    for signature, its_phase in (
        ("step_1", "decode"),
        ("step_4_16", "few"),
        ("step_few", "few"),
        ("step_many", "prompt"),
    ):
        operations = read_signature(tmp_path / "m.tflite", signature).operations
        stacked = [op.name for op in operations if op.kind == "SUM"]
        layers = len(program.spec.layers) if its_phase == phase else 0
        assert len(stacked) == layers
        assert all(".down" in name for name in stacked)
