"""Streams that run in the top blocks only: what the whole decoder says of the same step, for less work."""

import dataclasses
import gc
import json
import weakref
from collections import Counter

import numpy as np
import pytest

import edgesdk
from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.stack_record import STREAMS
from edgesdk.bundle.step_shape import MAIN
from edgesdk.bundle.stream_part import BELOW, TOP, StreamPart
from edgesdk.errors import BundleError, TransformError
from edgesdk.kv.step_model import steps_of
from edgesdk.kv.step_runner import DraftTree, StepEntry, StepRunner
from edgesdk_converters.convert import ConvertOptions, convert
from edgesdk_converters.stream_stacks import write_streams_apart
from edgesdk_converters.streams.add_streams import add_streams
from edgesdk_converters.streams.stream_checkpoint import write_streams
from edgesdk_converters.transforms.cut_streams import can_cut_streams, take_top
from tests.converters.streams.test_add_streams import DATA, make_streams, tree_of


class Counted:
    """A backend that counts the rows that each stack has run, and can hide the two parts."""

    def __init__(self, backend, *, whole=False):
        self._backend, self._whole = backend, whole
        self.rows = Counter()

    @property
    def contracts(self):
        found = self._backend.contracts
        return {MAIN: found[MAIN]} if self._whole else found

    @property
    def shapes(self):
        return self._backend.shapes

    def buffers(self, shape):
        return self._backend.buffers(shape)

    def run(self, shape, cells):
        self.rows[shape.stack] += shape.tokens
        self._backend.run(shape, cells)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def bundle(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("top-rows")
    *_, streams = make_streams(request.param, "streams")
    write_streams(folder / "streams", streams)
    options = ConvertOptions(
        targets=("litert", "onnx-step"),
        recipes=("f32",),
        context=128,
        prove=False,
        streams=folder / "streams",
    )
    convert(str(DATA / request.param), folder / "bundle", options)
    return folder / "bundle"


@pytest.mark.parametrize("cells", ["float16", "int8"])
def test_parts_have_the_cells_of_the_whole(tmp_path, cells):
    """A file that could be written and not be loaded: its parts had float32 cells."""
    *_, streams = make_streams("llama", "streams")
    write_streams(tmp_path / "streams", streams)
    options = ConvertOptions(
        ("litert",), ("f32",), context=128, prove=False, cells=cells, streams=tmp_path / "streams"
    )
    convert(str(DATA / "llama"), tmp_path / "bundle", options)
    tree = tree_of([(7, -1, 0), (0, -1, 1), (9, 0, 0), (0, 1, 2)])
    found = []
    with edgesdk.load(tmp_path / "bundle", backend="litert", strict=True, threads=1) as model:
        for whole in (True, False):
            counted = Counted(steps_of(model.backend), whole=whole)
            runner = StepRunner(counted, model.decoder, 128)
            own = runner.new_list()
            runner.run([StepEntry(own, np.arange(6, 15, dtype=np.int32), "none")])
            (rows,) = runner.run([StepEntry(own, np.array([11], np.int32), "last", tree)])
            found.append(rows.copy())
            assert (TOP in counted.rows) is not whole
            runner.keep(own, [0])
            found.append(runner.run([StepEntry(own, np.array([5], np.int32), "last")])[0].copy())
    for mine, other in zip(found[2:], found[:2], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5 if cells == "int8" else 2e-3)


@pytest.mark.parametrize("backend", ["litert", "onnxruntime-step"])
def test_a_step_in_two_parts_is_the_step(bundle, backend):
    """Trees with streams for one sequence, then two at once; logits, keys and values of what is kept."""
    random = np.random.default_rng(9)
    texts = [random.integers(6, 60, n).astype(np.int32) for n in (9, 14)]
    tree = tree_of([(7, -1, 0), (0, -1, 1), (9, 0, 0), (0, 1, 2), (8, -1, 0), (0, 0, 1), (0, 2, 1)])
    chain = DraftTree(np.array([5, 4], np.int32), np.array([-1, 0], np.int32))
    found = []
    with edgesdk.load(bundle, backend=backend, recipe="f32", strict=True, threads=1) as model:
        for whole in (True, False):
            counted = Counted(steps_of(model.backend), whole=whole)
            runner = StepRunner(counted, model.decoder, 128)
            lists = [runner.new_list() for _ in texts]
            for cells, text in zip(lists, texts, strict=True):
                runner.run([StepEntry(cells, text[:-1], "none")])
            counted.rows.clear()
            said = []
            (rows,) = runner.run([StepEntry(lists[0], texts[0][-1:], "last", tree)])
            said.append(rows.copy())
            runner.keep(lists[0], [0, 2])
            step = [
                StepEntry(lists[0], np.array([11], np.int32), "last", tree_of([(0, -1, 1), (0, 0, 2)])),
                StepEntry(lists[1], texts[1][-1:], "last", chain),
            ]
            said += [rows.copy() for rows in runner.run(step)]
            runner.keep(lists[1], [0])
            planes = [
                array[:, :, :, cells.cells_at(0, cells.length)].copy()
                for cells in lists
                for array in runner.pool.cells.arrays
            ]
            found.append((said, planes))
            if whole:
                assert set(counted.rows) == {MAIN}
            else:
                assert MAIN not in counted.rows
                assert counted.rows[BELOW] < counted.rows[TOP]
            for cells in lists:
                cells.close()
    for kind in (0, 1):
        for mine, other in zip(found[1][kind], found[0][kind], strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)


def test_cells_of_a_closed_runner_are_given_back(bundle):
    with edgesdk.load(bundle, backend="onnxruntime-step", recipe="f32", strict=True, threads=1) as model:
        runner = StepRunner(steps_of(model.backend), model.decoder, 128)
        cells = runner.new_list()
        runner.run([StepEntry(cells, np.array([7, 8], np.int32), "last", tree_of([(0, -1, 1)]))])
        array = weakref.ref(runner.pool.cells.arrays[0])
        cells.close()
        runner.close()
        gc.collect()
        assert array() is None


def test_a_step_that_no_size_fits_runs_whole(bundle):
    with edgesdk.load(bundle, backend="litert", recipe="f32", strict=True, threads=1) as model:
        counted = Counted(steps_of(model.backend))
        runner = StepRunner(counted, model.decoder, 128)
        tokens = np.arange(6, 26, dtype=np.int32)
        (rows,) = runner.run([StepEntry(runner.new_list(), tokens, "last", tree_of([(0, -1, 1)]))])
        assert set(counted.rows) == {MAIN}
        assert rows.shape[0] == 2


@pytest.mark.parametrize("change", ["part is missing", "other blocks", "other count", "no sizes"])
def test_a_damaged_record_is_refused(bundle, tmp_path, change):
    document = json.loads((bundle / MANIFEST_NAME).read_text())
    variant = document["variants"][0]
    top = next(stack for stack in variant["stacks"] if stack["name"] == TOP)
    if change == "part is missing":
        variant["stacks"] = [stack for stack in variant["stacks"] if stack["name"] != BELOW]
        variant["steps"] = [step for step in variant["steps"] if step["stack"] != BELOW]
    elif change == "other blocks":
        top["streamed"]["first"] += 1
    elif change == "other count":
        top["streamed"]["count"] += 1
    else:
        variant["steps"] = [step for step in variant["steps"] if step["stack"] != TOP]
    for file in bundle.rglob("*"):
        target = tmp_path / file.relative_to(bundle)
        if file.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(file)
    (tmp_path / MANIFEST_NAME).unlink()
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(document))
    with pytest.raises(BundleError, match="that fits its streams; convert it again"):
        open_bundle(tmp_path)


def test_what_begins_at_the_first_block_is_not_cut():
    _, program, streams = make_streams("llama", "masks")
    assert write_streams_apart(add_streams(program, streams), streams.config, ()) is None
    with pytest.raises(TransformError, match="no streams begin in the middle"):
        take_top(program, 1)
    spec = program.spec
    assert can_cut_streams(spec, 1)
    assert not can_cut_streams(dataclasses.replace(spec, blocks=spec.blocks[:1]), 1)


@pytest.mark.parametrize(("part", "first", "count"), [("middle", 1, 1), ("top", 0, 1), ("below", 1, 99)])
def test_odd_parts_are_refused(part, first, count):
    with pytest.raises(ValueError, match="streams"):
        StreamPart(part, first, count)


def test_tokens_below_have_no_input_of_streams(bundle):
    with edgesdk.load(bundle, backend="litert", recipe="f32", strict=True, threads=1) as model:
        contracts = steps_of(model.backend).contracts
        inputs = {name: {port.name for port in contracts[name].inputs} for name in (BELOW, TOP)}
        assert STREAMS not in inputs[BELOW]
        assert STREAMS in inputs[TOP]
        assert "tokens" not in inputs[TOP]
