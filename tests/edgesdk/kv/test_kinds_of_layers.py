"""Layers with other head sizes, and one that reads another's cells: the host sees groups and nothing else."""

import numpy as np
import pytest

from edgesdk.backends.fake import FakeStepBackend
from edgesdk.bundle.step_contract import StepContract, cell_groups, new_groups, step_contract
from edgesdk.bundle.step_shape import MAIN
from edgesdk.kv.cell_pool import CellPool
from edgesdk.kv.cell_sequence import CellSequence
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk.kv.step_sizes import StepSizes

LAYERS = ((2, 3), (1, 8), None)  # the third reads the cells of the first
READS = {2: 0}


def contract_of(spec, kind="float32"):
    main = step_contract(spec, kind)
    return StepContract(
        main.inputs, main.outputs, cell_groups(LAYERS, kind), new_groups(LAYERS, kind), kind, main.window
    )


@pytest.fixture(params=[None, 6])
def build(request, spec, shapes):
    def make():
        chosen = spec(request.param)
        backend = FakeStepBackend(chosen, shapes(), contracts={MAIN: contract_of(chosen)}, reads=READS)
        return backend, chosen

    return make


def test_whole_chunked_and_one_by_one_are_equal(build, tokens):
    backend, spec = build()
    expected = backend.expected_logits(tokens.tolist())
    for pieces in ((64,), (5, 1, 12, 46), (1,) * 64):
        sequence, start = CellSequence(backend, spec, 64), 0
        for count in pieces:
            found = sequence.extend(tokens[start : start + count])
            start += count
            assert np.array_equal(found, expected[start - 1])
    assert np.array_equal(CellSequence(backend, spec, 64).score(tokens), expected)


def test_the_layer_without_cells_matters(build, tokens):
    """Else the tests here would pass with a layer that nothing reads."""
    backend, _ = build()
    other, _ = build()
    other._reads = {2: 1}
    assert not np.array_equal(
        backend.expected_logits(tokens[:5].tolist()), other.expected_logits(tokens[:5].tolist())
    )


def test_forks_drafts_compaction_and_snapshots(build, tokens, tmp_path):
    backend, spec = build()
    runner = StepRunner(backend, spec, 64)
    lists = [runner.new_list() for _ in range(3)]
    for cells in lists:
        runner.run([StepEntry(cells, tokens[:9])])
    lists[0].close()
    fork = lists[1].fork()
    expected = backend.expected_logits([*tokens[:9].tolist(), 7, 8])
    tree = DraftTree(np.array([9, 8], np.int32), np.array([-1, -1], np.int32))
    (logits,) = runner.run([StepEntry(fork, np.array([7], np.int32), "last", tree)])
    assert np.array_equal(logits[[0, 2]], expected[-2:])
    runner.keep(fork, [1])
    assert runner.pool.frontier == runner.pool.used  # the run has closed the gap
    save_snapshot(tmp_path / "x", runner, fork, "m")
    other = StepRunner(backend, spec, 64)
    restored = load_snapshot(tmp_path / "x", other, spec, "m")
    (before, after) = runner.pool.read(fork.cells), other.pool.read(restored.cells)
    assert [array.shape for array in before.arrays] == [(1, 2, 2, 11, 3), (1, 2, 1, 11, 8)]
    assert all(map(np.array_equal, before.arrays, after.arrays))
    step = np.array([3], np.int32)
    expected = backend.expected_logits([*tokens[:9].tolist(), 7, 8, 3])[-1]
    assert np.array_equal(runner.run_next(fork, step), expected)
    assert np.array_equal(other.run_next(restored, step), expected)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_a_pool_keeps_every_group(spec, shapes, kind):
    contract = contract_of(spec(), kind)
    pool = CellPool(contract, StepSizes(shapes(), 64))
    assert pool.bytes_per_cell == sum(group.cell_bytes for group in contract.groups)
    rng = np.random.default_rng(0)
    new = CellPool(contract_of(spec()), StepSizes(shapes(), 64)).read(np.zeros(0, np.int32))
    new = type(new)(tuple(rng.standard_normal(group.shape(20)).astype(group.dtype) for group in contract.new))
    pool.write(pool.allocate(20), new)
    cell = pool.store_next(new.take(3))
    kept = pool.read(np.array([3, cell]))
    for array in kept.arrays:
        assert np.array_equal(array[:, :, :, 0], array[:, :, :, 1])
    assert pool.nbytes == pool.size * pool.bytes_per_cell
