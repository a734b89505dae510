"""int8 cells, run by LiteRT, against the evaluator that reads cells rounded in the same way."""

import dataclasses
import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.backends.protocol import MASKED, Cells
from edgesdk.bundle.manifest import StepShape
from edgesdk.bundle.step_contract import step_contract
from edgesdk.bundle.step_names import graph_tensors
from edgesdk.errors import DeviceError, SnapshotError
from edgesdk.kv.cell_memory import dequantise_cells, quantise_cells
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.emit.litert.model_file import schema
from edgesdk_converters.graph.evaluate import evaluate
from edgesdk_converters.graph.full_sequence import sequence_logits
from tests.converters.predecessor_inputs import predecessor_inputs

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

TOLERANCE = {"f32": 5e-4, "w8-round": 0.15}


@pytest.fixture
def narrow(cell_files):
    return cell_files("int8")


def rounded_logits(program, tokens, pieces):
    """Logits after each token, run in pieces, by the evaluator: every piece reads rounded cells."""
    spec = program.spec
    tensors = graph_tensors(step_contract(spec))
    none = StepShape(1, 0, 1, "")
    cells = {tensor.name: np.zeros(tensor.shape(none), np.float32) for tensor in tensors.cells}
    kept = np.zeros((len(spec.convolving), sum(pieces), spec.hidden_size), np.float32)
    rows, start = [], 0
    for count in pieces:
        positions = np.arange(start, start + count, dtype=np.int32)
        distance = positions[:, None] - np.arange(start + count)[None, :]
        inputs = {
            "tokens": tokens[start : start + count],
            "positions": positions,
            "mask": np.where(distance >= 0, np.float32(0), MASKED),
            "rows": np.arange(count, dtype=np.int32),
        }
        if spec.window is not None:
            seen = (distance >= 0) & (distance < spec.window)
            inputs["window_mask"] = np.where(seen, np.float32(0), MASKED)
        inputs |= predecessor_inputs(spec, kept, start, count)
        outputs = evaluate(program.graph, program.weights, inputs | cells)
        for place in range(len(kept)):
            kept[place, start : start + count] = outputs[f"x_new.{place}"][0]
        rows.append(outputs["logits"])
        for old, new in zip(tensors.cells, tensors.new, strict=False):  # convolutions have no cells here
            rounded = dequantise_cells(quantise_cells(Cells((np.ascontiguousarray(outputs[new.name]),))))
            cells[old.name] = np.concatenate([cells[old.name], rounded.arrays[0]], axis=1)
        start += count
    return np.concatenate(rows)


def near(found, expected, tolerance):
    assert np.abs(found - expected).max() < tolerance * max(1, np.abs(expected).max())


PIECES = {
    "one by one": (1,) * 24,
    "fours": (4,) * 6,
    "joined keys and values": (5, 12, 1, 6),
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("recipe", ["f32", "w8-round"])
def test_every_feature_matches_the_evaluator_on_rounded_cells(
    any_program, tokens, tmp_path, recipe, pieces, narrow
):
    program = narrow.emit(any_program, tmp_path / "m.tflite", recipe)
    backend = narrow.open_file(tmp_path / "m.tflite", program.spec)
    runner = StepRunner(backend, program.spec, narrow.CONTEXT, free_windows=False)
    _, found = narrow.run_pieces(runner, tokens, pieces)
    near(found, rounded_logits(program, tokens, pieces), TOLERANCE[recipe])


def test_rounding_is_seen_but_small(make_program, tokens, tmp_path, narrow):
    """Else the tests above would pass with cells that are not rounded, or never read."""
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    exact = next(sequence_logits(program, [tokens]))
    runner = StepRunner(narrow.open_file(tmp_path / "m.tflite", program.spec), program.spec, narrow.CONTEXT)
    _, found = narrow.run_pieces(runner, tokens, (1,) * len(tokens))
    off = np.abs(found - exact).max()
    assert 0.05 * np.abs(exact).max() > off > 2 * TOLERANCE["f32"] * np.abs(exact).max()


def test_the_interpreter_gives_what_the_compiled_model_gives(any_program, tokens, tmp_path, narrow):
    program = narrow.emit(any_program, tmp_path / "m.tflite")
    rows = []
    for open_ in (narrow.open_file, narrow.open_interpreter):
        runner = StepRunner(open_(tmp_path / "m.tflite", program.spec), program.spec, narrow.CONTEXT)
        rows.append(narrow.run_pieces(runner, tokens, (3, 1, 1, 7, 9))[1])
    near(rows[0], rows[1], 1e-4)


def test_integers_become_floats_by_dequantize_with_the_scale_one(make_program, tmp_path, narrow):
    """XNNPACK runs that, and falls back for CAST."""
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    s = schema()
    model = s.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    codes = [code.builtinCode for code in model.operatorCodes]
    cells = {f"{kind}_cache.{layer}" for kind in "kv" for layer in range(len(program.spec.layers))}
    for subgraph in model.subgraphs:
        stored = {i for i in subgraph.inputs if subgraph.tensors[i].name.decode() in cells}
        assert len(stored) == len(cells)
        for index in stored:
            tensor = subgraph.tensors[index]
            assert tensor.type == s.TensorType.INT8
            assert tensor.quantization.scale.tolist() == [1.0]
            readers = [codes[op.opcodeIndex] for op in subgraph.operators if index in op.inputs]
            assert readers == [s.BuiltinOperator.DEQUANTIZE]


def test_cells_become_numbers_layer_by_layer(make_program, tmp_path, narrow):
    """Made at the start, those of all layers would be in memory at once: four times what int8 takes."""
    narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    s = schema()
    model = s.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    codes = [code.builtinCode for code in model.operatorCodes]
    for subgraph in model.subgraphs:
        kinds = [codes[op.opcodeIndex] for op in subgraph.operators]
        made = [i for i, kind in enumerate(kinds) if kind == s.BuiltinOperator.DEQUANTIZE]
        assert s.BuiltinOperator.SOFTMAX in kinds[made[0] : made[-1]]


def test_forks_batches_and_trees_are_what_they_are_alone(make_program, tokens, tmp_path, narrow):
    program = narrow.emit(make_program("windows"), tmp_path / "m.tflite")
    runner = StepRunner(narrow.open_file(tmp_path / "m.tflite", program.spec), program.spec, narrow.CONTEXT)
    base, _ = narrow.run_pieces(runner, tokens, (10,))
    fork = base.fork()
    texts = [np.concatenate([tokens[:10], tokens[end : end + 2]]) for end in (10, 14)]
    for at in (10, 11):
        entries = [
            StepEntry(cells, text[at : at + 1]) for cells, text in zip((base, fork), texts, strict=True)
        ]
        rows = [np.array(row) for row in runner.run(entries)]
    assert runner.pool.used == 14
    for row, text in zip(rows, texts, strict=True):
        near(row, rounded_logits(program, text, (10, 1, 1))[-1], TOLERANCE["f32"])
    drafts, parents = tokens[20:24], np.array([-1, 0, 0, 2], np.int32)
    (logits,) = runner.run([StepEntry(fork, drafts[:1], "all", DraftTree(drafts[1:], parents[1:] - 1))])
    path = np.array([0, 2, 3], np.int32)
    text = np.concatenate([texts[1], drafts[path], tokens[19:20]])
    expected = rounded_logits(program, text, (10, 1, 1, 3, 1))
    near(np.array(logits)[path], expected[12:15], TOLERANCE["f32"])
    runner.keep(fork, path[1:] - 1)
    (logits,) = runner.run([StepEntry(fork, tokens[19:20])])
    near(np.array(logits), expected[15], TOLERANCE["f32"])
    runner.pool.check([base, fork])


def test_a_snapshot_holds_the_very_integers(make_program, tokens, tmp_path, narrow):
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    spec = program.spec
    backend = narrow.open_file(tmp_path / "m.tflite", spec)
    runner = StepRunner(backend, spec, narrow.CONTEXT)
    cells, _ = narrow.run_pieces(runner, tokens, (20,))
    save_snapshot(tmp_path / "x", runner, cells, "m")
    other = StepRunner(backend, spec, narrow.CONTEXT)
    found = load_snapshot(tmp_path / "x", other, spec, "m")
    before, after = runner.pool.read(cells.cells), other.pool.read(found.cells)
    assert [array.dtype for array in before.arrays] == [np.int8, np.float32]
    assert all(map(np.array_equal, before.arrays, after.arrays))
    step = tokens[20:21]
    assert np.array_equal(np.array(runner.run_next(cells, step)), np.array(other.run_next(found, step)))


def test_a_file_of_the_other_type_is_refused(make_program, tmp_path, narrow):
    """Whatever a manifest says: a wrong binding would read beyond an array."""
    spec = make_program("plain").spec
    shape = narrow.STEPS[0]
    for stored, said in (("int8", "float32"), ("float32", "int8")):
        narrow.emit(make_program("plain"), tmp_path / "m.tflite", kind=stored)
        with pytest.raises(DeviceError, match=f"cells are {said}, but the LiteRT file has"):
            narrow.open_file(tmp_path / "m.tflite", spec, said).buffers(shape)
        with pytest.raises(DeviceError, match=f"cells are {said}, but the LiteRT file has"):
            narrow.open_interpreter(tmp_path / "m.tflite", spec, said)


def test_cells_of_the_other_type_are_refused(make_program, tmp_path, narrow):
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    spec, shape = program.spec, narrow.STEPS[0]
    cells = allocate_cells(step_contract(spec).groups, shape.cells)
    for open_ in (narrow.open_file, narrow.open_interpreter):
        with pytest.raises(DeviceError, match="reads int8 cells, found float32"):
            open_(tmp_path / "m.tflite", spec).run(shape, cells)


def test_cells_that_fill_no_whole_lines_are_refused(make_program, tmp_path, narrow):
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    odd = (dataclasses.replace(narrow.STEPS[0], cells=12),)
    with pytest.raises(DeviceError, match="12 int8 cells of 2 KV heads do not fill whole"):
        narrow.open_file(tmp_path / "m.tflite", program.spec, steps=odd)


def test_a_snapshot_of_the_other_type_is_refused(make_program, tokens, tmp_path, narrow):
    runners = {}
    for kind in ("float32", "int8"):
        program = narrow.emit(make_program("plain"), tmp_path / f"{kind}.tflite", kind=kind)
        backend = narrow.open_file(tmp_path / f"{kind}.tflite", program.spec, kind)
        runners[kind] = StepRunner(backend, program.spec, narrow.CONTEXT)
        cells, _ = narrow.run_pieces(runners[kind], tokens, (20,))
        save_snapshot(tmp_path / kind, runners[kind], cells, "m")
    for kind, other in (("float32", "int8"), ("int8", "float32")):
        used = runners[kind].pool.used
        with pytest.raises(SnapshotError, match=f"holds {other} cells, this model's are {kind}"):
            load_snapshot(tmp_path / other, runners[kind], program.spec, "m")
        assert runners[kind].pool.used == used


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scales": np.zeros((2, 2, 2, 19), np.float32)}, "with scales"),
        ({"scales": np.full((2, 2, 2, 20), np.inf, np.float32)}, "no numbers"),
        ({"scales": np.zeros((2, 2, 2, 20), np.float16)}, "'F16'"),
        ({"kv": np.zeros((2, 2, 2, 21, 16), np.int8)}, "expected cells"),
    ],
)
def test_a_snapshot_with_other_scales_is_refused(make_program, tokens, tmp_path, change, match, narrow):
    program = narrow.emit(make_program("plain"), tmp_path / "m.tflite")
    runner = StepRunner(narrow.open_file(tmp_path / "m.tflite", program.spec), program.spec, narrow.CONTEXT)
    cells, _ = narrow.run_pieces(runner, tokens, (20,))
    save_snapshot(tmp_path / "x", runner, cells, "m")
    tensors = load_file(tmp_path / "x") | change
    digest = hashlib.sha256(b"".join(tensors[name].tobytes() for name in ("tokens", "kv", "scales")))
    header = {"format": "edgesdk-snapshot", "version": "1", "model": "m", "sha256": digest.hexdigest()}
    save_file(tensors, tmp_path / "x", metadata=header)
    with pytest.raises(SnapshotError, match=match):
        load_snapshot(tmp_path / "x", runner, program.spec, "m")
