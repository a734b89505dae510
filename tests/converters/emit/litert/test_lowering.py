"""Which operators a step has: no reshape of a reshape, heads cut whole, scales where they are wanted."""

import collections
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from edgesdk.backends.litert.compiled import CompiledStepBackend
from edgesdk.backends.litert.interpreter import InterpreterStepBackend
from edgesdk.backends.litert.keep_packed import wait_for_all
from edgesdk.backends.litert.weight_cache import open_weight_cache
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk_converters.emit.litert.emit_litert import LitertOptions, emit_litert
from edgesdk_converters.emit.litert.model_file import ModelFile, Varying, schema
from edgesdk_converters.emit.litert.state import Lowering
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

STEPS = (
    StepShape(1, 64, 1, "step_1"),
    *(StepShape(tokens, 64, tokens, "step_few") for tokens in (8, 16)),
    *(StepShape(tokens, 64, 8, "step_many") for tokens in (24, 32)),
)


def emit(program, path, recipe="w8-round", steps=STEPS, channel_scales=True):
    prepared = prepare(program, find_recipe(recipe))
    weights = QuantisedWeights(prepared.weights, find_recipe(recipe))
    emit_litert(prepared, weights, path, steps, 64, options=LitertOptions(channel_scales=channel_scales))
    return weights


def operators(path, signature):
    """Operators of a signature: code, input tensors, output tensors, version; tensors have `made_by`."""
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(path.read_bytes(), 0))
    codes = {value: name for name, value in vars(s.BuiltinOperator).items() if isinstance(value, int)}
    subgraph = next(found for found in model.subgraphs if found.name.decode() == signature)
    made_by = {}
    for operator in subgraph.operators:
        kind = model.operatorCodes[operator.opcodeIndex]
        code = codes[kind.builtinCode]
        tensors = [subgraph.tensors[index] if index >= 0 else None for index in operator.inputs]
        sources = [made_by.get(index) for index in operator.inputs]
        made_by.update(dict.fromkeys(operator.outputs, code))
        yield SimpleNamespace(code=code, version=kind.version, inputs=tensors, sources=sources)


def scores(program, path, package=None):
    spec = program.spec
    if package is None:
        backend = CompiledStepBackend(path, main_stack(spec), STEPS, threads=1, weight_cache=None)
    else:
        backend = InterpreterStepBackend(path, main_stack(spec), STEPS, threads=1, package=package)
    text = np.random.default_rng(5).integers(0, spec.vocab_size, 24).astype(np.int32)
    sequence = CellSequence(backend, spec, 64)
    return np.concatenate([sequence.score(text), [sequence.extend(text[:1]).copy()]])


def lowering(tokens=4):
    model = ModelFile("test")
    step = StepShape(tokens, 16, 1, "step")
    return Lowering(model.subgraph("step"), None, None, step, 16)


def test_a_reshape_starts_from_what_was_computed():
    state = lowering()
    x = state.subgraph.input("x", (4, 6))
    y = state.reshape(state.reshape(x, "first", (4, 2, 3)), "second", (8, 3))
    assert [operator.inputs[0] for operator in state.subgraph.operators] == [x, x]
    assert state.subgraph.shape(y) == (8, 3)


def test_a_shape_that_is_there_already_needs_no_operator():
    state = lowering()
    x = state.subgraph.input("x", (4, 6))
    assert state.reshape(x, "same", (4, 6)) == x
    first = state.reshape(x, "first", (4, 2, 3))
    assert state.reshape(first, "back", (4, 6)) == x
    assert state.reshape(first, "stays", (4, 2, 3)) == first
    assert len(state.subgraph.operators) == 1


def test_a_slice_of_a_middle_axis_runs_to_the_end_of_what_varies():
    state = lowering()
    x = state.subgraph.input("x", (Varying(4), 6, 2))
    state.slice(x, "y", (Varying(4), 2, 2), 1, 3)
    (operator,) = state.subgraph.operators
    assert operator.builtinOptions.endMask == 1  # the first axis
    begin, end = (state.subgraph.tensors[index].name for index in operator.inputs[1:3])
    assert (begin, end) == ("int32:0,3,0", "int32:-1,5,2")


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_nothing_is_reshaped_twice(any_program, tmp_path, recipe):
    emit(any_program, tmp_path / "m.tflite", recipe)
    for signature in ("step_1", "step_few", "step_many"):
        for operator in operators(tmp_path / "m.tflite", signature):
            assert operator.code != "RESHAPE" or operator.sources[0] != "RESHAPE"


def test_heads_are_cut_from_one_reshaped_product(make_program, tmp_path):
    program = make_program("plain")
    emit(program, tmp_path / "m.tflite")
    layers = len(program.spec.layers)
    for signature, reshapes in (("step_1", 3), ("step_few", 4), ("step_many", 4)):
        counts = collections.Counter(o.code for o in operators(tmp_path / "m.tflite", signature))
        assert counts["RESHAPE"] == reshapes * layers + 2  # cosines and sines


@pytest.mark.parametrize("channel_scales", [True, False])
def test_scales_stand_where_they_are_wanted(make_program, tmp_path, channel_scales):
    emit(make_program("biases"), tmp_path / "m.tflite", channel_scales=channel_scales)
    found = list(operators(tmp_path / "m.tflite", "step_few"))
    products = [o for o in found if o.code == "FULLY_CONNECTED" and o.inputs[1].quantization is not None]
    assert products
    for product in products:
        rows = product.inputs[1].shape[0]
        assert len(product.inputs[1].quantization.scale) == (rows if channel_scales else 1)
        # tflite-runtime 2.14 takes several scales for zeros, and does not know version 12.
        assert product.version == (12 if channel_scales else 5)
    biases = [product for product in products if product.inputs[2] is not None]
    assert bool(biases) == channel_scales
    tables = [o.inputs[0] for o in found if o.code == "GATHER" and o.inputs[0].name == b"embed"]
    assert [len(table.quantization.scale) for table in tables] == [1]


@pytest.mark.parametrize("name", ["plain", "biases", "untied"])
def test_logits_do_not_depend_on_where_scales_stand(make_program, tmp_path, name):
    program = make_program(name)
    found = []
    for channel_scales in (True, False):
        emit(program, tmp_path / "m.tflite", channel_scales=channel_scales)
        found += [
            scores(program, tmp_path / "m.tflite"),
            scores(program, tmp_path / "m.tflite", "ai_edge_litert"),
        ]
    for one, other in itertools.pairwise(found):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def test_the_integers_stand_once_however_many_tensors_see_them(make_program, tmp_path):
    program = make_program("plain")  # its head is its table
    weights = emit(program, tmp_path / "m.tflite")
    data = (tmp_path / "m.tflite").read_bytes()
    for name in weights:
        if weights.scheme(name) is not None:
            assert data.count(weights.quantised(name).values.tobytes()) == 1, name


def test_a_matrix_is_packed_once_for_all_signatures(make_program, tmp_path, monkeypatch):
    """XNNPACK's file of packed weights grows by nothing when more signatures use them."""
    program, sizes = make_program("plain"), []
    for steps in (STEPS[:1], STEPS):
        emit(program, tmp_path / "m.tflite", steps=steps)
        monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / str(len(steps))))
        cache = open_weight_cache("ab" * 32, tmp_path / "m.tflite")
        backend = CompiledStepBackend(
            tmp_path / "m.tflite", main_stack(program.spec), steps, threads=1, weight_cache=cache
        )
        sequence = CellSequence(backend, program.spec, 64)
        for count in {step.tokens for step in steps}:
            sequence.extend(np.arange(count, dtype=np.int32))
            sequence = CellSequence(backend, program.spec, 64)
        backend.close()
        wait_for_all()
        (built,) = (tmp_path / str(len(steps)) / "xnnpack").glob("*.bin")
        sizes.append(built.stat().st_size)
    matrices = sum(np.prod(v.shape) for v in program.graph.weights if len(v.shape) == 2)
    assert matrices < sizes[0]
    assert sizes[1] - sizes[0] < 4096  # names of kernels and signatures
