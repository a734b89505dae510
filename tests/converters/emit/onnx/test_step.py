"""The step models, run by ONNX Runtime, against the evaluator on the very same weights."""

import dataclasses
import typing

import numpy as np
import onnx
import pytest

from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import predecessor_ports, step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.step import emit_step
from edgesdk_converters.emit.onnx.step_lowering import LOWERINGS
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

STEP = StepShape(5, 7, 3, "t5_s7")
# Of the largest logit; weights are unpacked to float32. The evaluator does not round to float16.
TOLERANCE = {"f32": 1e-5, "f16": 3e-3, "w8-round": 1e-5, "w4b32-round": 1e-5, "w4c-round": 1e-5}


def random_step(spec):
    """Any inputs at all: the contract holds for masks that no sequence would have."""
    random = np.random.default_rng(3)
    T, S, R = STEP.tokens, STEP.cells, STEP.rows

    def mask():
        seen = random.random((T, S + T)) < 0.6
        seen[:, 0] = True
        return np.where(seen, np.float32(0), np.float32(-1e9))

    inputs = {
        "tokens": random.integers(0, spec.vocab_size, T).astype(np.int32),
        "positions": random.integers(0, 60, T).astype(np.int32),
        "mask": mask(),
        "rows": random.integers(0, T, R).astype(np.int32),
    }
    if spec.window is not None:
        inputs["window_mask"] = mask()
    for port in predecessor_ports(spec):
        inputs[port.name] = random.standard_normal(port.shape(STEP)).astype(np.float32)
    for cells in graph_tensors(step_contract(spec)).cells:
        inputs[cells.name] = random.standard_normal(cells.shape(STEP)).astype(np.float32)
    return inputs


def test_every_operation_has_a_lowering():
    assert set(LOWERINGS) == set(typing.get_args(ops.Op))


@pytest.mark.parametrize("recipe", sorted(TOLERANCE))
def test_a_step_is_the_evaluators(any_program, quantise, tmp_path, recipe):
    program = quantise(any_program, recipe)
    emit_step(program, program.weights, tmp_path, [STEP], 64)
    session = open_session(tmp_path / "t5_s7.onnx", 1)
    inputs = random_step(program.spec)
    expected = evaluate(program.graph, program.weights, inputs)
    names = [output.name for output in session.get_outputs()]
    assert names == list(program.graph.outputs)
    for name, found in zip(names, session.run(names, inputs), strict=True):
        scale = np.abs(expected[name]).max()
        assert np.abs(found - expected[name]).max() < TOLERANCE[recipe] * scale, name


def test_program_without_transforms_matches(any_program, tmp_path):
    weights = QuantisedWeights(any_program.weights, find_recipe("w8-round"))
    emit_step(any_program, weights, tmp_path, [STEP], 64)
    inputs = random_step(any_program.spec)
    expected = evaluate(any_program.graph, weights, inputs)["logits"]
    found = open_session(tmp_path / "t5_s7.onnx", 1).run(["logits"], inputs)[0]
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("recipe", ["f32", "w8-round", "w4b32-round"])
def test_only_standard_operators(make_program, quantise, tmp_path, recipe):
    program = quantise(make_program("gemma_like"), recipe)
    emit_step(program, program.weights, tmp_path, [STEP], 64)
    model = onnx.load(tmp_path / "t5_s7.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]
    onnx.checker.check_model(model, full_check=True)


def test_cells_are_read_in_place(make_program, quantise, tmp_path):
    """No operator but a product reads them: nothing copies, joins or turns the cache."""
    program = quantise(make_program("plain"), "w8-round")
    emit_step(program, program.weights, tmp_path, [STEP], 64)
    nodes = onnx.load(tmp_path / "t5_s7.onnx", load_external_data=False).graph.node
    readers = {node.op_type for node in nodes for name in node.input if "_cache." in name}
    assert readers == {"MatMul"}


def test_sizes_share_the_weights(make_program, quantise, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    sizes = []
    for steps in ([STEP], [STEP, StepShape(1, 16, 1, "t1"), StepShape(8, 16, 8, "t8")]):
        folder = tmp_path / str(len(steps))
        folder.mkdir()
        emit_step(program, program.weights, folder, steps, 64)
        sizes.append((folder / "weights.data").stat().st_size)
        assert {p.stem for p in folder.glob("*.onnx")} == {step.signature for step in steps}
    assert sizes[0] == sizes[1]


def test_whole_sequence_in_one_step(make_program, quantise, tokens, tmp_path):
    program = quantise(make_program("windows"), "w4b32-round")
    step = StepShape(len(tokens), 1, len(tokens), "whole")
    emit_step(program, program.weights, tmp_path, [step], 64)
    T = len(tokens)
    distance = np.arange(T)[:, None] - np.arange(T)[None, :]
    inputs = {
        "tokens": tokens,
        "positions": np.arange(T, dtype=np.int32),
        "rows": np.arange(T, dtype=np.int32),
    }
    for name, window in (("mask", T), ("window_mask", program.spec.window)):
        seen = np.concatenate([np.zeros((T, 1), bool), (distance >= 0) & (distance < window)], axis=1)
        inputs[name] = np.where(seen, np.float32(0), np.float32(-1e9))
    for cells in graph_tensors(step_contract(program.spec)).cells:
        inputs[cells.name] = np.full(cells.shape(StepShape(T, 1, T, "whole")), 9, np.float32)
    found = open_session(tmp_path / "whole.onnx", 1).run(["logits"], inputs)[0]
    expected = next(sequence_logits(program, [tokens]))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_refusals(make_program, tmp_path):
    program = make_program("plain")
    weights = QuantisedWeights(program.weights, find_recipe("f32"))
    for steps in ([], [STEP, dataclasses.replace(STEP, tokens=1)]):
        with pytest.raises(EmitError, match="a signature of its own"):
            emit_step(program, weights, tmp_path, steps, 64)
    assert list(tmp_path.iterdir()) == []
