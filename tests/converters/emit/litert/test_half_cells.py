"""float16 cells, run by LiteRT, against the evaluator and against themselves in other pieces."""

import numpy as np
import pytest

from edgesdk.backends.cell_arrays import allocate_cells
from edgesdk.bundle.step_contract import step_contract
from edgesdk.errors import DeviceError, SnapshotError
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.emit.litert.model_file import schema
from edgesdk_converters.graph.full_sequence import sequence_logits

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this platform")

# Keys, values, scores and shares are rounded to 11 bits, one part in 2,048 each.
ROUNDING = 5e-3
PIECES = {"one by one": (1,) * 24, "fours": (4,) * 6, "joined": (5, 12, 1, 6)}


@pytest.fixture
def half(cell_files):
    return cell_files("float16")


def off(found, expected):
    """Largest difference, as a share of the largest logit."""
    return np.abs(found - expected).max() / max(1, np.abs(expected).max())


@pytest.fixture
def opened(make_program, tmp_path, half):
    """A model with windows, its file opened."""
    program = half.emit(make_program("windows"), tmp_path / "m.tflite")
    return program, half.open_file(tmp_path / "m.tflite", program.spec)


def test_every_feature_is_the_evaluator_but_for_rounding(any_program, tokens, tmp_path, half):
    program = half.emit(any_program, tmp_path / "m.tflite")
    exact = next(sequence_logits(program, [tokens]))
    backend = half.open_file(tmp_path / "m.tflite", program.spec)
    found = [
        half.run_pieces(
            StepRunner(backend, program.spec, half.CONTEXT, free_windows=False), tokens[:24], pieces
        )[1]
        for pieces in PIECES.values()
    ]
    for rows in found:
        assert off(rows, exact[:24]) < ROUNDING
    # A token is rounded before its own step reads it, so pieces differ by sums and scores alone.
    for rows in found[1:]:
        assert off(rows, found[0]) < ROUNDING / 2


def test_rounding_is_seen(make_program, tokens, tmp_path, half):
    """Else the test above would pass with cells that are never read, or kept in float32."""
    program = half.emit(make_program("plain"), tmp_path / "m.tflite")
    exact = next(sequence_logits(program, [tokens]))
    runner = StepRunner(half.open_file(tmp_path / "m.tflite", program.spec), program.spec, half.CONTEXT)
    cells, found = half.run_pieces(runner, tokens, (1,) * len(tokens))
    assert off(found, exact) > 1e-5
    assert runner.pool.cells.cell_type == "float16"
    assert runner.pool.bytes_per_cell * 2 == program.spec.cell_bytes
    runner.pool.check([cells])


def test_xnnpack_takes_all_of_it(make_program, tokens, tmp_path, half):
    """What it leaves to LiteRT's own kernels, which have no float16, would fail when it runs."""
    program = half.emit(make_program("plain"), tmp_path / "m.tflite", "w8-round")
    s = schema()
    model = s.ModelT.InitFromPackedBuf((tmp_path / "m.tflite").read_bytes())
    codes = {code.builtinCode for code in model.operatorCodes}
    assert s.BuiltinOperator.QUANTIZE in codes
    assert s.BuiltinOperator.CAST not in codes
    for subgraph in model.subgraphs:
        types = {subgraph.tensors[i].name.decode(): subgraph.tensors[i].type for i in subgraph.inputs}
        halves = {f"{kind}_half.{layer}" for kind in "kv" for layer in range(len(program.spec.layers))}
        assert {name for name, kind in types.items() if kind == s.TensorType.FLOAT16} == halves


def test_the_interpreter_gives_what_the_compiled_model_gives(any_program, tokens, tmp_path, half):
    program = half.emit(any_program, tmp_path / "m.tflite")
    rows = []
    for open_ in (half.open_file, half.open_interpreter):
        runner = StepRunner(open_(tmp_path / "m.tflite", program.spec), program.spec, half.CONTEXT)
        rows.append(half.run_pieces(runner, tokens[:21], (3, 1, 1, 7, 9))[1])
    assert off(rows[0], rows[1]) < 1e-4


def test_forks_batches_and_trees_are_what_they_are_alone(opened, tokens, half):
    program, backend = opened
    runner = StepRunner(backend, program.spec, half.CONTEXT)
    base, _ = half.run_pieces(runner, tokens, (10,))
    fork = base.fork()
    texts = [np.concatenate([tokens[:10], tokens[end : end + 2]]) for end in (10, 14)]
    for at in (10, 11):
        entries = [StepEntry(c, text[at : at + 1]) for c, text in zip((base, fork), texts, strict=True)]
        rows = [np.array(row) for row in runner.run(entries)]
    for row, text in zip(rows, texts, strict=True):
        alone = StepRunner(backend, program.spec, half.CONTEXT)
        assert off(row, half.run_pieces(alone, text, (10, 1, 1))[1][-1]) < ROUNDING / 2
    drafts, parents = tokens[20:24], np.array([-1, 0, 0, 2], np.int32)
    (logits,) = runner.run([StepEntry(fork, drafts[:1], "all", DraftTree(drafts[1:], parents[1:] - 1))])
    path = np.array([0, 2, 3], np.int32)
    found = np.array(logits)[path]
    runner.keep(fork, path[1:] - 1)
    text = np.concatenate([texts[1], drafts[path]])
    expected = half.run_pieces(StepRunner(backend, program.spec, half.CONTEXT), text, (10, 1, 1, 3))[1]
    assert off(found, expected[12:15]) < ROUNDING / 2
    runner.pool.check([base, fork])


def test_a_snapshot_holds_the_very_numbers(opened, tokens, tmp_path, half):
    program, backend = opened
    runner = StepRunner(backend, program.spec, half.CONTEXT)
    cells, _ = half.run_pieces(runner, tokens, (20,))
    save_snapshot(tmp_path / "x", runner, cells, "m")
    other = StepRunner(backend, program.spec, half.CONTEXT)
    found = load_snapshot(tmp_path / "x", other, program.spec, "m")
    before, after = runner.pool.read(cells.cells), other.pool.read(found.cells)
    assert before.cell_type == "float16"
    assert np.array_equal(before.arrays[0], after.arrays[0])
    step = tokens[20:21]
    assert np.array_equal(np.array(runner.run_next(cells, step)), np.array(other.run_next(found, step)))


@pytest.mark.parametrize(("stored", "said"), [("float16", "float32"), ("float32", "float16")])
def test_a_file_of_another_type_is_refused(make_program, tmp_path, stored, said, half):
    """Whatever a manifest says: a wrong binding would read beyond an array."""
    spec = make_program("plain").spec
    half.emit(make_program("plain"), tmp_path / "m.tflite", kind=stored)
    with pytest.raises(DeviceError, match=f"cells are {said}, but the LiteRT file has no input"):
        half.open_file(tmp_path / "m.tflite", spec, said).buffers(half.STEPS[0])


def test_cells_of_another_type_are_refused(make_program, tmp_path, half):
    program = half.emit(make_program("plain"), tmp_path / "m.tflite")
    spec = program.spec
    cells = allocate_cells(step_contract(spec).groups, half.STEPS[0].cells)
    for open_ in (half.open_file, half.open_interpreter):
        with pytest.raises(DeviceError, match="reads float16 cells, found float32"):
            open_(tmp_path / "m.tflite", spec).run(half.STEPS[0], cells)


def test_heads_that_fill_no_whole_lines_are_refused(other_mixers, make_program, tmp_path, half):
    spec = other_mixers(make_program("plain").spec, kv_heads=1)
    with pytest.raises(DeviceError, match="1 KV heads of 16 with 2 bytes a number do not fill whole 64"):
        half.open_file(tmp_path / "m.tflite", spec)


def test_a_snapshot_of_another_type_is_refused(make_program, tokens, tmp_path, half):
    runners = {}
    for kind in ("float32", "float16"):
        program = half.emit(make_program("plain"), tmp_path / f"{kind}.tflite", kind=kind)
        backend = half.open_file(tmp_path / f"{kind}.tflite", program.spec, kind)
        runners[kind] = StepRunner(backend, program.spec, half.CONTEXT)
        cells, _ = half.run_pieces(runners[kind], tokens, (20,))
        save_snapshot(tmp_path / kind, runners[kind], cells, "m")
    for kind, other in (("float32", "float16"), ("float16", "float32")):
        with pytest.raises(SnapshotError, match=f"holds {other} cells, this model's are {kind}"):
            load_snapshot(tmp_path / other, runners[kind], program.spec, "m")
