"""A second output per row and one per token, and a second stack in one file: through every step backend.

What is asked is that the ports are data: nothing here is written for a new output but a record that names it.
"""

import dataclasses

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.litert.check_litert_file import check_litert_file
from edgesdk.backends.litert.check_signature import LitertContract
from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.interpreter import InterpreterStepBackend
from edgesdk.backends.onnxruntime_step import OnnxStepBackend
from edgesdk.backends.openvino_step import OpenVinoStepBackend
from edgesdk.bundle.manifest import (
    SCHEMA_VERSION,
    GenerationDefaults,
    Manifest,
    Source,
    StackRecord,
    StepShape,
    TokenizerRecord,
    Variant,
)
from edgesdk.bundle.port import Port
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import GATES
from edgesdk.bundle.step_contract import step_contracts
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.writer import BundleWriter
from edgesdk.dispatch.split_steps import SplitStepBackend
from edgesdk.errors import DeviceError, EmitError
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk_converters.emit.coreml.emit_coreml import check_layout
from edgesdk_converters.emit.further_stack import FurtherStack
from edgesdk_converters.emit.litert.emit_litert import emit_litert
from edgesdk_converters.emit.onnx.open_step import emit_open_step
from edgesdk_converters.emit.onnx.resident import check_resident
from edgesdk_converters.emit.onnx.step import emit_step
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.graph import Node, Value
from edgesdk_converters.graph.ops import Scale
from edgesdk_converters.graph.program import Program
from edgesdk_converters.graph.program_contract import program_contract
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.transforms.add_low_rank import add_low_rank
from edgesdk_converters.transforms.skip_layers import skip_layers
from edgesdk_converters.transforms.skip_request import parse_skip

STEPS = (StepShape(1, 32, 1, "one"), StepShape(4, 32, 4, "few"), StepShape(16, 32, 2, "many"))
SHALLOW = "shallow"
ROW, TOKEN = Port("row_state", ("R", 64)), Port("token_state", ("T", 64))


def with_outputs(program, ports):
    """The program with the stream after its last block as outputs: of the wanted rows, of all tokens."""
    graph = program.graph
    (last,) = (node for node in graph.nodes if node.outputs == ("last",))
    sources = {ROW: "last", TOKEN: last.inputs[0]}
    nodes = [Node(Scale(0.5), (sources[port],), (port.name,)) for port in ports]
    values = {port.name: Value(port.name, port.dims) for port in ports}
    grown = dataclasses.replace(
        graph,
        nodes=(*graph.nodes, *nodes),
        outputs=(*graph.outputs, *values),
        values={**graph.values, **values},
    )
    return dataclasses.replace(program, graph=grown)


@pytest.fixture
def written(make_program, random_terms, tmp_path):
    """Writes a program with both outputs as one variant; returns the program and the bundle."""

    def write(format_, name="windows", shallow=False, gated=False):
        plain = make_program(name)
        if gated:
            plain = add_low_rank(plain, random_terms(plain), 2)
        recipe = find_recipe("f32")
        prepared = prepare(plain, recipe)
        program = with_outputs(prepared, (ROW, TOKEN))
        weights = QuantisedWeights(prepared.weights, recipe)
        gates = (Port(GATES, ("T", 2)),) if gated else ()
        stacks, steps, others = [StackRecord(MAIN, inputs=gates, outputs=(ROW, TOKEN))], STEPS, ()
        programs = {MAIN: program}
        if shallow:
            less = with_outputs(skip_layers(prepared, parse_skip("0")), (TOKEN,))
            sizes = tuple(
                dataclasses.replace(step, signature=f"shallow_{step.signature}", stack=SHALLOW)
                for step in STEPS
            )
            stacks.append(StackRecord(SHALLOW, outputs=(TOKEN,), decoder=less.spec))
            steps, others = (*STEPS, *sizes), (FurtherStack(less, sizes),)
            programs[SHALLOW] = less
        with BundleWriter(tmp_path / "bundle") as writer:
            writer.path("tokenizer.json").write_text("{}", encoding="utf-8")
            if format_ == "litert":
                entry = "variants/v/model.tflite"
                emit_litert(program, weights, writer.path(entry), STEPS, 64, others)
            elif format_ == "open":
                entry = "variants/v/one.onnx"
                steps = tuple(dataclasses.replace(step, signature="one") for step in STEPS)
                emit_open_step(program, weights, writer.path(entry).parent, steps, 64)
                format_ = "onnx-step"
            else:
                entry = "variants/v/one.onnx"
                emit_step(program, weights, writer.path(entry).parent, STEPS, 64)
            variant = Variant(
                "v", format_, "f32", ("cpu",), entry, 32, steps, stacks=tuple(stacks), numbers="0" * 64
            )
            writer.finish(
                Manifest(
                    schema_version=SCHEMA_VERSION,
                    name="tiny",
                    licence=None,
                    created_by="edgesdk tests",
                    source=Source("gguf", "tiny", ()),
                    decoder=program.spec,
                    tokenizer=TokenizerRecord(1, (2,), False),
                    generation=GenerationDefaults(),
                    variants=(variant,),
                    files={},
                )
            )
        return open_bundle(tmp_path / "bundle"), {
            stack: Program(found.spec, found.graph, weights) for stack, found in programs.items()
        }

    return write


def open_compiled(bundle):
    variant = bundle.variant("v")
    contracts = step_contracts(bundle.manifest, variant)
    return CompiledStepBackend(
        bundle.file(variant.entry), contracts, variant.steps, threads=1, weight_cache=None
    )


def open_interpreter(bundle):
    variant = bundle.variant("v")
    contracts = step_contracts(bundle.manifest, variant)
    return InterpreterStepBackend(
        bundle.file(variant.entry), contracts, variant.steps, threads=1, package="ai_edge_litert"
    )


def open_onnx(bundle):
    return OnnxStepBackend(bundle, bundle.variant("v"), threads=1)


def compare(backend, programs, shape):
    """One step with any masks and cells at all, against the evaluator."""
    program, contract = programs[shape.stack], backend.contracts[shape.stack]
    rng, arrays = np.random.default_rng(3), backend.buffers(shape)
    arrays.tokens[:] = rng.integers(0, program.spec.vocab_size, shape.tokens)
    arrays.positions[:] = rng.integers(0, 60, shape.tokens)
    arrays.rows[:] = rng.integers(0, shape.tokens, shape.rows)
    if any(port.name == GATES for port in contract.inputs):
        arrays.port(GATES)[:] = rng.standard_normal(arrays.port(GATES).shape)
    for mask in (arrays.mask, arrays.window_mask):
        if mask is not None:
            mask[:] = np.where(rng.random(mask.shape) < 0.6, np.float32(0), np.float32(-1e9))
            mask[:, shape.cells] = 0
    cells = allocate_cells(contract.groups, shape.cells)
    for array in cells.arrays:
        array[:] = rng.standard_normal(array.shape)
    tensors = graph_tensors(contract)
    inputs = {t.name: arrays.port(t.port.name).copy() for t in tensors.ports_in}
    inputs |= {t.name: cells.arrays[t.group][t.layer, t.side] for t in tensors.cells}
    expected = evaluate(program.graph, program.weights, inputs)
    backend.run(shape, cells)
    found = {t.name: arrays.port(t.port.name) for t in tensors.ports_out}
    found |= {t.name: arrays.kv_new.arrays[t.group][t.layer, t.side] for t in tensors.new}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() < 2e-5 * max(1, np.abs(value).max()), (shape, name)


def open_with_openvino(bundle):
    pytest.importorskip("openvino", reason="needs the extra 'openvino'")
    return OpenVinoStepBackend(bundle, bundle.variant("v"), "cpu", threads=1)


OPENERS = {
    "litert": ("litert", open_compiled),
    "litert-interpreter": ("litert", open_interpreter),
    "onnxruntime-step": ("onnx-step", open_onnx),
    "onnxruntime-step open": ("open", open_onnx),
    "openvino": ("onnx-step", open_with_openvino),
    "openvino open": ("open", open_with_openvino),
}
"""What each runs of what is written, and how it is opened."""


@pytest.mark.parametrize("decoder", ["windows", "mixed"])
@pytest.mark.parametrize("name", OPENERS)
def test_outputs_of_rows_and_of_tokens_come_from_every_backend(written, name, decoder):
    kind, opener = OPENERS[name]
    bundle, programs = written(kind, decoder)
    backend = opener(bundle)
    for shape in (*backend.shapes, backend.shapes[0]):
        compare(backend, programs, shape)


@pytest.mark.parametrize("decoder", ["windows", "biases", "gemma_like", "mixed", "untied"])
@pytest.mark.parametrize("name", OPENERS)
def test_gated_terms_of_low_rank_are_those_of_the_evaluator(written, name, decoder):
    kind, opener = OPENERS[name]
    bundle, programs = written(kind, decoder, gated=True)
    backend = opener(bundle)
    for shape in backend.shapes:
        compare(backend, programs, shape)


def test_core_ml_adds_gated_terms(make_program, random_terms, tmp_path):
    pytest.importorskip("coremltools", reason="needs the extra 'coreml'")
    from edgesdk.backends.coreml.interpreter import MilInterpreter
    from edgesdk.backends.coreml.step_backend import CoreMLStepBackend
    from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml

    recipe, plain = find_recipe("f32"), make_program("windows")
    program = prepare(add_low_rank(plain, random_terms(plain), 2), recipe)
    weights = QuantisedWeights(program.weights, recipe)
    emit_coreml(program, weights, tmp_path / "m.mlpackage", STEPS, 64)
    backend = CoreMLStepBackend(
        MilInterpreter(tmp_path / "m.mlpackage"), {MAIN: program_contract(program)}, STEPS
    )
    for shape in STEPS:
        compare(backend, {MAIN: Program(program.spec, program.graph, weights)}, shape)


def open_core_ml(program, weights, path):
    pytest.importorskip("coremltools", reason="needs the extra 'coreml'")
    from edgesdk.backends.coreml.interpreter import MilInterpreter
    from edgesdk.backends.coreml.step_backend import CoreMLStepBackend
    from edgesdk.bundle.step_contract import step_contract
    from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml

    emit_coreml(program, weights, path, STEPS, 64)
    contracts = {MAIN: step_contract(program.spec, outputs=(ROW, TOKEN))}
    return CoreMLStepBackend(MilInterpreter(path), contracts, STEPS)


@pytest.mark.parametrize("decoder", ["windows", "mixed"])
def test_core_ml_gives_them_too(make_program, tmp_path, decoder):
    recipe = find_recipe("f32")
    prepared = prepare(make_program(decoder), recipe)
    program = with_outputs(prepared, (ROW, TOKEN))
    weights = QuantisedWeights(prepared.weights, recipe)
    backend = open_core_ml(program, weights, tmp_path / "m.mlpackage")
    for shape in STEPS:
        compare(backend, {MAIN: Program(program.spec, program.graph, weights)}, shape)
    read_in_pieces(backend, program.spec, Program(program.spec, program.graph, weights))


def read_in_pieces(backend, spec, program):
    """Logits after each piece of a text are those of the whole text, by the evaluator."""
    text = np.random.default_rng(5).integers(0, 96, 24).astype(np.int32)
    expected = next(sequence_logits(program, [text]))
    runner, start = StepRunner(backend, spec, 32), 0
    cells = runner.new_list()
    for count in (6, 1, 1, 11, 1, 4):
        (logits,) = runner.run([StepEntry(cells, text[start : start + count])])
        start += count
        wanted = expected[start - 1]
        assert np.abs(logits - wanted).max() < 2e-4 * np.abs(wanted).max(), start


@pytest.mark.parametrize("name", OPENERS)
def test_two_head_sizes_and_shared_cells_in_pieces_are_the_whole(written, name):
    kind, opener = OPENERS[name]
    bundle, programs = written(kind, "mixed")
    read_in_pieces(opener(bundle), bundle.manifest.decoder, programs[MAIN])


def test_the_file_is_checked_by_what_the_manifest_says_of_each_stack(written):
    bundle, _ = written("litert", shallow=True)
    variant = bundle.variant("v")
    contracts = step_contracts(bundle.manifest, variant)
    path, vocab_size = bundle.file(variant.entry), bundle.manifest.decoder.vocab_size
    check_litert_file(path, LitertContract(contracts, variant.steps, vocab_size, 32))
    for stack, contract in contracts.items():
        fewer = dataclasses.replace(contract, outputs=contract.outputs[:1])
        wider = (contract.logits, dataclasses.replace(contract.outputs[1], dims=("T", 65)))
        for changed in (fewer, dataclasses.replace(contract, outputs=wider)):
            said = LitertContract({**contracts, stack: changed}, variant.steps, vocab_size, 32)
            with pytest.raises(DeviceError, match=r"output '\w+_state' .* its manifest"):
                check_litert_file(path, said)


@pytest.mark.parametrize("name", ["litert", "litert-interpreter", "split"])
def test_two_stacks_of_one_file_run_in_turn(written, name):
    bundle, programs = written("litert", shallow=True)
    if name == "split":
        backend = SplitStepBackend(open_compiled(bundle), open_compiled(bundle))
    else:
        backend = OPENERS[name][1](bundle)
    for shape in backend.shapes:
        compare(backend, programs, shape)
    text = np.random.default_rng(5).integers(0, 96, 24).astype(np.int32)
    expected = {stack: next(sequence_logits(program, [text])) for stack, program in programs.items()}
    runners = {
        stack: StepRunner(backend, program.spec, 32, stack=stack) for stack, program in programs.items()
    }
    lists = {stack: runner.new_list() for stack, runner in runners.items()}
    start = 0
    for count in (6, 1, 1, 11, 1, 4):
        for stack, runner in runners.items():
            (logits,) = runner.run([StepEntry(lists[stack], text[start : start + count])])
            wanted = expected[stack][start + count - 1]
            assert np.abs(logits - wanted).max() < 2e-4 * np.abs(wanted).max(), (stack, start)
        start += count


@pytest.mark.parametrize("check", ["resident", "state"])
def test_a_target_that_gives_logits_only_refuses_further_outputs(make_program, check):
    program = make_program("plain")
    weights = QuantisedWeights(program.weights, find_recipe("w8-round"))
    checks = {
        "resident": lambda given: check_resident(given, weights),
        "state": lambda given: check_layout(given, "state"),
    }
    checks[check](program)
    with pytest.raises(EmitError, match="gives logits only, the model also has 'token_state'"):
        checks[check](with_outputs(program, [TOKEN]))
