"""Saved packages, interpreted, against the evaluator on the very same weights."""

import dataclasses
import typing
from collections import Counter

import numpy as np
import pytest

from edgesdk.backends.coreml.interpreter import MilInterpreter
from edgesdk.backends.coreml.mil_program import MODEL_PATH, WEIGHTS_PATH, Stored, read_program
from edgesdk.backends.coreml.step_backend import LOWEST_MASK, CoreMLStepBackend
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import main_stack
from edgesdk.errors import EmitError
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk_converters.emit.coreml.emit_coreml import emit_coreml
from edgesdk_converters.emit.coreml.emit_parts import emit_parts
from edgesdk_converters.emit.coreml.lowering import LOWERINGS
from edgesdk_converters.graph import ops
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.prepare import prepare
from edgesdk_converters.quantise.block_kernels import COREML_BLOCKS
from edgesdk_converters.quantise.quantised_weights import QuantisedWeights
from edgesdk_converters.quantise.recipe import find_recipe
from edgesdk_converters.quantise_program import quantise_program

STEPS = (StepShape(1, 40, 1, "step_1"), StepShape(5, 40, 3, "step_5"), StepShape(33, 40, 8, "step_33"))
# Of the largest logit. The f32 recipe computes in float32, all others in float16.
TOLERANCE = {
    "f32": 1e-5,
    "f16": 0.02,
    "w8-round": 0.02,
    "w4b32-round": 0.02,
    "w4c-round": 0.02,
    "p4-round": 0.02,
}


@pytest.fixture
def interpreted(quantise, tmp_path):
    """Emits a program and opens what was written."""

    def run(program, recipe, steps=STEPS, layout="cells"):
        quantised = quantise(program, recipe)
        path = tmp_path / f"{recipe}-{layout}-{len(steps)}.mlpackage"
        emit_coreml(quantised, quantised.weights, path, steps, 64, layout)
        return quantised, MilInterpreter(path)

    return run


def named(inputs, step):
    """Inputs of the graph as Core ML names them, masks as its contract wants them."""
    found = {name.replace(".", "_"): value for name, value in inputs.items()}
    if step.tokens == 1:
        del found["rows"]
    return {n: np.maximum(v, LOWEST_MASK) if n.endswith("mask") else v for n, v in found.items()}


def test_every_operation_has_a_lowering():
    assert set(LOWERINGS) == set(typing.get_args(ops.Op)) - {ops.Convolve, ops.RowProducts}  # refused by name


@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_steps_with_any_masks_are_the_evaluators(any_program, interpreted, random_step, recipe):
    program, interpreter = interpreted(any_program, recipe)
    for step in STEPS:
        inputs = random_step(program.spec, step)
        expected = evaluate(program.graph, program.weights, inputs)
        found = interpreter.predict(step.signature, named(inputs, step))
        for name, value in expected.items():
            error = np.abs(found[name.replace(".", "_")] - value).max()
            assert error < TOLERANCE[recipe] * np.abs(value).max(), (step, name)


@pytest.mark.parametrize("recipe", sorted(TOLERANCE))
def test_every_recipe_matches_the_evaluator(make_program, interpreted, tokens, recipe):
    program, interpreter = interpreted(make_program("plain"), recipe)
    backend = CoreMLStepBackend(interpreter, main_stack(program.spec), STEPS)
    expected = next(sequence_logits(program, [tokens]))
    found = CellSequence(backend, program.spec, 40).score(tokens)
    assert np.abs(found - expected).max() < TOLERANCE[recipe] * np.abs(expected).max()


def test_prefill_and_decode_give_the_same_logits(any_program, interpreted, tokens):
    program, interpreter = interpreted(any_program, "f32")
    backend = CoreMLStepBackend(interpreter, main_stack(program.spec), STEPS)
    expected = next(sequence_logits(program, [tokens]))
    pieces = CellSequence(backend, program.spec, 40)
    for piece in (tokens[:3], tokens[3:4], tokens[4:21], tokens[21:22], tokens[22:23]):
        seen = pieces.length + len(piece)
        np.testing.assert_allclose(pieces.extend(piece), expected[seen - 1], rtol=1e-4, atol=1e-4)


def test_a_row_that_sees_nothing_gives_numbers(make_program, interpreted, random_step):
    program, interpreter = interpreted(make_program("plain"), "w8-round")
    step = STEPS[1]
    inputs = named(random_step(program.spec, step), step)
    inputs["mask"] = np.full_like(inputs["mask"], LOWEST_MASK)
    assert np.isfinite(interpreter.predict(step.signature, inputs)["logits"]).all()


@pytest.mark.parametrize("factor", [3000.0, 1e-3])
def test_large_and_tiny_residuals_stay_in_range(make_program, interpreted, tokens, factor):
    """Squares of a stream of thousands leave float16's range; those of a tiny one vanish in it."""
    plain = make_program("plain")
    spec = dataclasses.replace(plain.spec, embedding_scale=factor)
    program = dataclasses.replace(plain, spec=spec, graph=build_decoder(spec))
    quantised, interpreter = interpreted(program, "f16")
    backend = CoreMLStepBackend(interpreter, main_stack(spec), STEPS)
    found = CellSequence(backend, spec, 40).score(tokens)
    expected = next(sequence_logits(quantised, [tokens]))
    assert np.abs(found - expected).max() < TOLERANCE["f16"] * np.abs(expected).max()


def test_constants_stand_once_however_many_functions_use_them(make_program, interpreted, tmp_path):
    sizes = []
    for steps in (STEPS[:1], STEPS):
        interpreted(make_program("plain"), "w8-round", steps)
        sizes.append((tmp_path / f"w8-round-cells-{len(steps)}.mlpackage" / WEIGHTS_PATH).stat().st_size)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(("recipe", "dtype"), [("w8-round", "int8"), ("w4b32-round", "int4")])
def test_weights_stay_integers(make_program, interpreted, tmp_path, recipe, dtype):
    program, _ = interpreted(make_program("untied"), recipe)
    path = tmp_path / f"{recipe}-cells-{len(STEPS)}.mlpackage"
    stored, total = Counter(), 0
    for function in read_program(path).functions.values():
        for op in function.operations:
            if op.type == "constexpr_blockwise_shift_scale":
                (data,) = op.inputs["data"]
                assert isinstance(data, Stored)
                stored[data.type.dtype] += 1
            elif op.type == "const" and isinstance(op.inputs["val"][0], Stored):
                # Rotary tables are the only two-dimensional constants that are floating point.
                assert len(op.inputs["val"][0].type.shape) == 1 or op.inputs["val"][0].type.shape[0] == 64
    matrices = [v.name for v in program.graph.weights if len(v.shape) == 2 and program.weights.scheme(v.name)]
    assert stored.total() == len(matrices) * len(STEPS)
    assert stored[dtype] > 0
    for name in matrices:
        total += program.weights.quantised(name).nbytes
    written = (path / WEIGHTS_PATH).stat().st_size
    # Blobs have headers of 64 bytes and begin at multiples of 64; vectors and tables are the rest.
    assert total * 0.9 < written < total + 40_000


def test_palettes_are_what_was_chosen_and_take_half_a_byte(make_program, interpreted, tmp_path):
    program, _ = interpreted(make_program("untied"), "p4-round")
    path = tmp_path / f"p4-round-cells-{len(STEPS)}.mlpackage"
    read = read_program(path)
    weights, seen = program.weights, 0
    matrices = [v.name for v in program.graph.weights if len(v.shape) == 2]
    for op in read.functions[STEPS[0].signature].operations:
        if op.type == "constexpr_lut_to_dense":
            (indices,), (palettes,) = op.inputs["indices"], op.inputs["lut"]
            assert indices.type.dtype == "uint4"
            values = read.weights.read(indices.offset, "uint4", indices.type.shape)
            table = read.weights.read(palettes.offset, "float16", palettes.type.shape)
            dense = table[np.arange(len(values)) // 16, 0, values[:, 0], 0]
            assert any(
                np.array_equal(weights.load(name)[:, 0], dense.astype(np.float32))
                for name in matrices
                if weights.shape(name) == indices.type.shape
            )
            seen += 1
    assert seen == len(matrices) - 2
    total = sum(weights.stored(name).nbytes for name in matrices)
    written = (path / WEIGHTS_PATH).stat().st_size
    assert total * 0.9 < written < total + 40_000


@pytest.mark.parametrize("recipe", ["w4b32-round", "p4-round"])
def test_coremltools_accepts_what_was_written(any_program, interpreted, tmp_path, recipe):
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models.utils import load_spec

    interpreted(any_program, recipe)
    path = tmp_path / f"{recipe}-cells-{len(STEPS)}.mlpackage"
    spec = load_spec(str(path))
    # Reading it back infers every type and shape again, and compares with what is declared.
    program = load(spec, spec.specificationVersion, str((path / WEIGHTS_PATH).parent))
    program.validate()
    assert set(program.functions) == {step.signature for step in STEPS}
    model = coremltools.models.MLModel(str(path), skip_model_load=True, function_name=STEPS[0].signature)
    assert model.get_spec().description.defaultFunctionName == STEPS[0].signature


@pytest.mark.parametrize("recipe", ["w4b32-round", "p4-round"])
def test_passes_of_coremltools_would_leave_weights_quantised(make_program, interpreted, tmp_path, recipe):
    """None runs here, but whoever converts the package further must not get floats back."""
    from coremltools import ComputeUnit
    from coremltools.converters.mil.converter import mil_convert
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models.utils import load_spec

    interpreted(make_program("plain"), recipe, STEPS[1:2])
    path = tmp_path / f"{recipe}-cells-1.mlpackage"
    spec = load_spec(str(path))
    program = load(spec, spec.specificationVersion, str((path / WEIGHTS_PATH).parent))
    program.export_as_multifunction = True
    program.default_function_name = STEPS[1].signature
    model = mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=spec.specificationVersion,
        compute_units=ComputeUnit.CPU_ONLY,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "again.mlpackage"))
    again = (tmp_path / "again.mlpackage" / WEIGHTS_PATH).stat().st_size
    assert again < 1.05 * (path / WEIGHTS_PATH).stat().st_size


def test_states_give_what_cells_give(uniform_program, interpreted, tokens):
    steps = STEPS[:2]
    program, interpreter = interpreted(uniform_program, "w8-round", steps, "state")
    expected = next(sequence_logits(program, [tokens]))
    spec, S = program.spec, 40
    states = interpreter.make_states("step_1")
    position = 0
    for piece in (tokens[:5], tokens[5:6], tokens[6:7], tokens[7:12]):
        step = steps[0] if len(piece) == 1 else steps[1]
        T = step.tokens
        rows = position + np.arange(T)[:, None]
        distance = rows - np.arange(S)[None, :]
        inputs = {
            "tokens": piece,
            "positions": np.arange(position, position + T, dtype=np.int32),
            "start": np.array([position], np.int32),
            "mask": np.where(distance >= 0, np.float32(0), LOWEST_MASK),
        }
        if spec.window is not None:
            seen = (distance >= 0) & (distance < spec.window)
            inputs["window_mask"] = np.where(seen, np.float32(0), LOWEST_MASK)
        if T > 1:
            inputs["rows"] = np.full(step.rows, T - 1, np.int32)
        logits = interpreter.predict(step.signature, inputs, states)["logits"][0]
        position += T
        error = np.abs(logits - expected[position - 1]).max()
        assert error < TOLERANCE["w8-round"] * np.abs(expected).max(), position


def test_files_can_be_read_by_others(make_program, interpreted, tmp_path):
    interpreted(make_program("plain"), "f16")
    path = tmp_path / f"f16-cells-{len(STEPS)}.mlpackage"
    assert (path / MODEL_PATH).stat().st_mode & 0o777 == 0o644
    assert {p.name for p in tmp_path.iterdir()} == {path.name}


def test_refusals(make_program, tmp_path):
    program = make_program("plain")
    weights = QuantisedWeights(program.weights, find_recipe("f32"))
    path = tmp_path / "m.mlpackage"
    for steps in ((), (STEPS[0], STEPS[0])):
        with pytest.raises(EmitError, match="a signature of its own"):
            emit_coreml(program, weights, path, steps, 64)
    (path / "something").mkdir(parents=True)
    with pytest.raises(EmitError, match="not empty"):
        emit_coreml(program, weights, path, STEPS, 64)
    (path / "something").rmdir()
    path.rmdir()
    with pytest.raises(EmitError, match="states are float16"):
        emit_coreml(program, weights, path, STEPS, 64, "state")
    other = StepShape(1, 16, 1, "step_1_16")
    with pytest.raises(EmitError, match="one number of cells"):
        emit_coreml(program, weights, path, (*STEPS, other), 64, "state")
    mixed = make_program("mixed")
    weights = QuantisedWeights(mixed.weights, find_recipe("f16"))
    with pytest.raises(EmitError, match="2 layers that read another's cells; Core ML states are of one size"):
        emit_coreml(mixed, weights, path, STEPS, 64, "state")
    with pytest.raises(EmitError, match="Core ML states are of one size"):
        emit_parts(mixed, weights, tmp_path, STEPS, 64, "state", 1 << 20)
    assert list(tmp_path.iterdir()) == []


def test_a_files_own_blocks_stay_what_they_are(make_program, in_blocks, tokens, tmp_path):
    """Recipe `source`: the integers of GGUF blocks, their minimums as products of sums of blocks."""
    recipe = find_recipe("source")
    program = in_blocks(make_program("untied"), lambda name: "Q4_1" if "layers" in name else "Q8_0")
    made = quantise_program(prepare(program, recipe), recipe, COREML_BLOCKS, [tokens])
    emit_coreml(made.program, made.weights, tmp_path / "m.mlpackage", STEPS, 64)
    backend = CoreMLStepBackend(MilInterpreter(tmp_path / "m.mlpackage"), main_stack(program.spec), STEPS)
    found = CellSequence(backend, program.spec, 40).score(tokens)
    expected = next(sequence_logits(program, [tokens]))
    assert np.abs(found - expected).max() < TOLERANCE["w8-round"] * np.abs(expected).max()
