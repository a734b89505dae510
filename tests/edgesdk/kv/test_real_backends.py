"""Everything that theory promises about cells, on runtimes with rounding: equal within a tolerance.

Tiny random checkpoints in float32; gemma3 has layers with a window and layers without.
"""

from pathlib import Path

import numpy as np
import pytest

from edgesdk.backends.litert.open_litert import open_compiled
from edgesdk.backends.onnxruntime_step import open_step
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.kv.prefix_tree import PrefixTree
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner

TINY = Path(__file__).parents[2] / "data" / "tiny"
OPENERS = {"litert-f32": open_compiled, "onnx-step-f32": open_step}
CONTEXT = 64


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def bundle(request, converted_once):
    targets = ("litert", "onnx", "onnx-step")
    return open_bundle(
        converted_once(TINY / request.param, targets=targets, recipes=("f32",), context=CONTEXT)
    )


def open_runner(bundle, variant):
    backend = OPENERS[variant](OpenRequest(bundle, bundle.variant(variant), 1)).model
    return backend, StepRunner(backend, bundle.manifest.decoder, CONTEXT)


@pytest.fixture(params=list(OPENERS))
def runner(request, bundle):
    backend, runner = open_runner(bundle, request.param)
    yield runner
    backend.close()


@pytest.fixture
def texts(bundle):
    rng = np.random.default_rng(3)
    return [rng.integers(3, bundle.manifest.decoder.vocab_size, 30).astype(np.int32) for _ in range(3)]


def alone(runner, tokens):
    """Logits after each token, of a sequence that is by itself and runs in one piece: (n, V)."""
    cells = runner.new_list()
    (logits,) = runner.run([StepEntry(cells, tokens, "all")])
    found = np.array(logits)
    cells.close()
    return found


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, np.abs(expected).max()))
    assert np.array_equal(found.argmax(-1), expected.argmax(-1))


def test_batched_is_alone_and_chunked_is_whole(runner, texts):
    expected = [alone(runner, text) for text in texts]
    lists = [runner.new_list() for _ in texts]
    done = [0, 0, 0]
    for counts in ((3, 1, 9), (1, 1, 1), (9, 1, 1), (1, 12, 1), (1, 1, 1), (5, 1, 7)):
        entries = [
            StepEntry(cells, text[at : at + n], "all")
            for cells, text, at, n in zip(lists, texts, done, counts, strict=True)
        ]
        for i, logits in enumerate(runner.run(entries)):
            same(logits, expected[i][done[i] : done[i] + counts[i]])
            done[i] += counts[i]
    runner.pool.check(lists)


def test_forked_is_separate(runner, texts):
    one = runner.new_list()
    runner.run([StepEntry(one, texts[0][:20], "none")])
    forks = [one.fork() for _ in range(2)]
    ends = [texts[i][20:24] for i in range(3)]
    lists = [one, *forks]
    assert runner.pool.used == 20
    for at in range(4):
        found = runner.run([StepEntry(cells, ends[i][at : at + 1]) for i, cells in enumerate(lists)])
        rows = [np.array(row) for row in found]
        for i, row in enumerate(rows):
            same(row, alone(runner, np.concatenate([texts[0][:20], ends[i][: at + 1]]))[-1])
    assert runner.pool.used == 32
    runner.pool.check(lists)


def test_a_tree_of_drafts_is_its_paths(runner, texts):
    cells = runner.new_list()
    runner.run([StepEntry(cells, texts[0][:9])])
    drafts, parents = texts[1][:6], np.array([-1, 0, 0, 2, -1, 3], np.int32)
    entry = StepEntry(cells, texts[0][9:10], "last", DraftTree(drafts, parents))
    (logits,) = runner.run([entry])
    found = np.array(logits)
    for row, path in enumerate([[], [0], [0, 1], [0, 2], [0, 2, 3], [4], [0, 2, 3, 5]]):
        same(found[row], alone(runner, np.concatenate([texts[0][:10], drafts[path]]))[-1])
    # Nothing else may run between the drafts and what is kept of them.
    cells.truncate(9)
    runner.run([entry])
    runner.keep(cells, [0, 2, 3])
    (logits,) = runner.run([StepEntry(cells, texts[2][:1])])
    same(
        np.array(logits), alone(runner, np.concatenate([texts[0][:10], drafts[[0, 2, 3]], texts[2][:1]]))[-1]
    )


def test_a_found_prefix_and_moved_cells_change_nothing(runner, texts):
    tree = PrefixTree(runner.pool, 1 << 30)
    first, other = runner.new_list(), runner.new_list()
    runner.run([StepEntry(other, texts[1][:7]), StepEntry(first, texts[0][:20])])
    tree.insert(first)
    first.close()
    other.close()
    count, cells = tree.match(texts[0])
    assert (count, runner.pool.used) == (20, 20)
    again = runner.new_list()
    again.adopt(texts[0][:count], cells)
    assert runner.pool.compact() > 0
    (logits,) = runner.run([StepEntry(again, texts[0][20:], "all")])
    found = np.array(logits)
    runner.pool.check([again, tree])
    same(found, alone(runner, texts[0])[20:])


def test_a_snapshot_continues_on_the_other_backend(bundle, texts, tmp_path):
    spec = bundle.manifest.decoder
    backends, runners = zip(*(open_runner(bundle, name) for name in OPENERS), strict=True)
    for source, target in (runners, runners[::-1]):
        cells = source.new_list()
        source.run([StepEntry(cells, texts[0][:20])])
        save_snapshot(tmp_path / "x", source, cells, "m")
        found = load_snapshot(tmp_path / "x", target, spec, "m")
        (logits,) = target.run([StepEntry(found, texts[0][20:], "all")])
        restored = np.array(logits)
        (logits,) = source.run([StepEntry(cells, texts[0][20:], "all")])
        same(restored, np.array(logits))
    for backend in backends:
        backend.close()
