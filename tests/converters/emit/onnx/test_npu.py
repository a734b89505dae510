"""The NPU form, run by ONNX Runtime on the CPU, against the evaluator on the same weights."""

import numpy as np
import onnx
import pytest

from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import predecessor_ports, step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.errors import EmitError
from edgesdk_converters.emit.onnx.npu import emit_npu
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.quantise.activation_ranges import ActivationRange, measure_ranges

STEP = StepShape(5, 7, 3, "t5_s7")
TOLERANCE = {"f32": 3e-3, "w8-round": 4e-3, "w4b32-round": 4e-3, "w4c-round": 4e-3}
"""Of the largest number: matrices are float16, or read and give 16-bit integers."""


def inputs_of(spec):
    """A text of 12 tokens, the first 7 in cells."""
    random = np.random.default_rng(3)
    T, S = STEP.tokens, STEP.cells
    seen = np.tril(np.ones((T, S + T), bool), S)
    mask = np.where(seen, np.float32(0), np.float32(-1e9))
    inputs = {
        "tokens": random.integers(0, spec.vocab_size, T).astype(np.int32),
        "positions": np.arange(S, S + T, dtype=np.int32),
        "mask": mask,
        "rows": np.array([0, 2, 4], np.int32),
    }
    if spec.window is not None:
        inputs["window_mask"] = mask
    for port in predecessor_ports(spec):
        inputs[port.name] = random.standard_normal(port.shape(STEP)).astype(np.float32)
    for cells in graph_tensors(step_contract(spec)).cells:
        inputs[cells.name] = random.standard_normal(cells.shape(STEP)).astype(np.float32)
    return inputs


def emitted(program, folder, tokens, ranges=None):
    found = measure_ranges(program, [tokens]) if ranges is None else ranges
    emit_npu(program, program.weights, folder, [STEP], 64, found)
    return folder / "t5_s7.onnx"


def kinds(path):
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


@pytest.mark.parametrize("recipe", sorted(TOLERANCE))
def test_a_step_is_the_evaluators(any_program, quantise, tokens, tmp_path, recipe):
    program = quantise(any_program, recipe)
    inputs = inputs_of(program.spec)
    # The text that is measured is the one that runs, so that nothing leaves its range.
    ranges = measure_ranges(program, [np.concatenate([tokens, inputs["tokens"]])])
    wide = {n: ActivationRange(r.low * 3 - 3, r.high * 3 + 3, 1e3) for n, r in ranges.items()}
    session = open_session(emitted(program, tmp_path, tokens, wide), 1)
    expected = evaluate(program.graph, program.weights, inputs)
    names = [output.name for output in session.get_outputs()]
    assert names == list(program.graph.outputs)
    for name, found in zip(names, session.run(names, inputs), strict=True):
        scale = np.abs(expected[name]).max()
        assert np.abs(found - expected[name]).max() < TOLERANCE[recipe] * scale, name


def test_products_read_and_give_16_bits(make_program, quantise, tokens, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    path = emitted(program, tmp_path, tokens)
    graph = onnx.load(path).graph
    makers = {name: node for node in graph.node for name in node.output}
    readers = {name: node for node in graph.node for name in node.input}
    products = [node for node in graph.node if node.op_type == "Gemm"]
    integers = [node for node in products if makers[node.input[1]].op_type == "DequantizeLinear"]
    assert len(integers) == 2 * 4 + 1  # fused: qkv, o, gate_up, down, and the head
    assert len(products) == len(integers) + 1  # the rotation back before the head is not quantised
    for node in integers:
        levels = makers[makers[node.input[0]].input[0]]
        assert levels.op_type == "QuantizeLinear"
        assert readers[node.output[0]].op_type == "QuantizeLinear"
    zeros = {t.name: t.data_type for t in graph.initializer}
    assert zeros[levels.input[2]] == onnx.TensorProto.UINT16


def test_a_value_that_16_bits_cannot_hold_stays_float(make_program, quantise, tokens, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    ranges = measure_ranges(program, [tokens])
    coarse = {n: ActivationRange(r.low, r.high * 1e4, r.typical) for n, r in ranges.items()}
    coarse = {n: r if r.high < 6e4 else ActivationRange(r.low, 6e4, r.typical) for n, r in coarse.items()}
    path = emitted(program, tmp_path, tokens, coarse)
    # Left are the rows of the table, which are integers as they are stored.
    assert kinds(path).count("QuantizeLinear") == 1
    inputs = inputs_of(program.spec)
    expected = evaluate(program.graph, program.weights, inputs)["logits"]
    found = open_session(path, 1).run(["logits"], inputs)[0]
    # The rotation before the head is float16; what is quantised is exact.
    assert np.abs(found - expected).max() < 5e-4 * np.abs(expected).max()


def test_the_same_integers_as_the_step(make_program, quantise, tokens, tmp_path):
    """A table that is also the head is stored once, and compiled as two constants."""
    program = quantise(make_program("plain"), "w8-round")
    model = onnx.load(emitted(program, tmp_path, tokens), load_external_data=False)
    places = {
        t.name: {e.key: e.value for e in t.external_data}
        for t in model.graph.initializer
        if t.name.startswith("embed.") and t.data_location == onnx.TensorProto.EXTERNAL
    }
    assert places["embed.int8"] == places["embed.unit_int8"]


def test_a_row_that_sees_nothing_gives_numbers(make_program, quantise, tokens, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    inputs = inputs_of(program.spec)
    inputs["mask"][1] = -1e9
    for value in open_session(emitted(program, tmp_path, tokens), 1).run(None, inputs):
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", ["plain", "gemma_like"])
def test_only_standard_operators(make_program, quantise, tokens, tmp_path, name):
    path = emitted(quantise(make_program(name), "w8-round"), tmp_path, tokens)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert [o.domain for o in model.opset_import] == [""]
    assert "Gelu" not in kinds(path)


def test_refusals(make_program, quantise, tokens, tmp_path):
    program = quantise(make_program("plain"), "w8-round")
    with pytest.raises(EmitError, match="a signature of its own"):
        emit_npu(program, program.weights, tmp_path, [], 64, {})
    huge = {"logits": ActivationRange(0.0, 1e5, 1.0)}
    with pytest.raises(EmitError, match="logits reaches 100000, more than float16 holds"):
        emit_npu(program, program.weights, tmp_path, [STEP], 64, huge)
    assert list(tmp_path.iterdir()) == []
