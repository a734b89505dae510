"""What is saved comes back exactly; whatever else a file may be is refused in one line."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgesdk.errors import CapacityError, SnapshotError
from edgesdk.kv.snapshot import load_snapshot, save_snapshot
from edgesdk.kv.step_runner import StepEntry

MODEL = "a model"


@pytest.fixture
def saved(build_runner, tmp_path, tokens):
    """A file, and the runner and sequence that it was made from."""
    backend, runner = build_runner()
    other = runner.new_list()
    runner.run([StepEntry(other, tokens[:3])])  # so that cells do not begin at 0
    cells = runner.new_list()
    for start in (0, 15):
        runner.run([StepEntry(cells, tokens[start : start + 15])])
    path = tmp_path / "a.snapshot"
    save_snapshot(path, runner, cells, MODEL)
    return path, backend, runner, cells


def test_a_restored_sequence_goes_on_as_if_uninterrupted(saved, build_runner, spec, tokens):
    path, backend, runner, cells = saved
    for target in (runner, build_runner(context=40)[1]):
        found = load_snapshot(path, target, spec(), MODEL)
        assert np.array_equal(found.tokens, tokens[:30])
        assert all(
            map(np.array_equal, target.pool.read(found.cells).arrays, runner.pool.read(cells.cells).arrays)
        )
        (logits,) = target.run([StepEntry(found, tokens[30:33])])
        assert np.array_equal(logits, backend.expected_logits(tokens[:33])[-1])
    assert cells.length == 30


def test_nothing_is_left_beside_the_file(saved):
    path, _, runner, cells = saved
    save_snapshot(path, runner, cells, MODEL)
    assert os.listdir(path.parent) == [path.name]
    with pytest.raises(SnapshotError, match="cannot be written"):
        save_snapshot(path.parent / "absent" / "x", runner, cells, MODEL)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_only_a_plain_file_is_replaced(saved):
    path, _, runner, cells = saved
    link, pipe, whole = path.parent / "link", path.parent / "pipe", path.read_bytes()
    link.symlink_to(path)
    os.mkfifo(pipe)
    for target, why in ((link, "a link"), (pipe, "a pipe"), (path.parent, "a folder")):
        with pytest.raises(SnapshotError, match=f"cannot be written: it is {why}; give a new name") as caught:
            save_snapshot(target, runner, cells, "other")
        assert "\n" not in str(caught.value)
    assert link.is_symlink()
    assert path.read_bytes() == whole
    assert sorted(os.listdir(path.parent)) == sorted([path.name, "link", "pipe"])


def test_an_interrupted_save_leaves_the_old_file(saved, monkeypatch):
    path, _, runner, cells = saved
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_snapshot(path, runner, cells, "other")
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before


def test_what_is_no_whole_sequence_is_not_saved(build_runner, tmp_path, tokens):
    _, runner = build_runner(window=4, all_layers=True)
    cells = runner.new_list()
    with pytest.raises(SnapshotError, match="the sequence is empty"):
        save_snapshot(tmp_path / "x", runner, cells, MODEL)
    runner.run([StepEntry(cells, tokens[:9])])
    with pytest.raises(SnapshotError, match="before position 6 are freed"):
        save_snapshot(tmp_path / "x", runner, cells, MODEL)
    assert not list(tmp_path.iterdir())


def refused(path, runner, spec, match, model=MODEL):
    used = runner.pool.used
    with pytest.raises(SnapshotError, match=match) as caught:
        load_snapshot(path, runner, spec, model)
    assert "\n" not in str(caught.value)
    assert runner.pool.used == used


def rewrite(path, tensors=None, **header):
    """The same file with other contents, and a digest that is right for them."""
    import hashlib

    found = load_file(path)
    found.update(tensors or {})
    digest = hashlib.sha256(found["tokens"].tobytes() + found["kv"].tobytes()).hexdigest()
    base = {"format": "edgesdk-snapshot", "version": "1", "model": MODEL, "sha256": digest}
    save_file(found, path, metadata=base | header)


def test_other_models_versions_and_formats_are_refused(saved, spec):
    path, _, runner, _ = saved
    refused(path, runner, spec(), "another model, recipe or adapter", model="b model")
    rewrite(path, version="2")
    refused(path, runner, spec(), "version '2' of the format, expected '1'")
    rewrite(path, format="else")
    refused(path, runner, spec(), "no snapshot of edgesdk")
    save_file({"x": np.zeros(3)}, path)
    refused(path, runner, spec(), "no snapshot of edgesdk")


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"kv": np.zeros((3, 2, 2, 29, 3), np.float32)}, "expected cells"),
        ({"kv": np.zeros((2, 2, 2, 30, 3), np.float32)}, "expected cells"),
        ({"tokens": np.zeros(0, np.int32), "kv": np.zeros((3, 2, 2, 0, 3), np.float32)}, "expected cells"),
        ({"tokens": np.zeros((30, 1), np.int32)}, "expected cells"),
        ({"tokens": np.zeros(30, np.int64)}, "'I64'"),
        ({"kv": np.zeros((3, 2, 2, 30, 3), np.float64)}, "'F64'"),
        ({"more": np.zeros(2, np.float32)}, "'more'"),
        ({"tokens": np.full(30, 50, np.int32)}, "outside the vocabulary of 50"),
        ({"tokens": np.full(30, -1, np.int32)}, "outside the vocabulary of 50"),
        ({"kv": np.full((3, 2, 2, 30, 3), np.nan, np.float32)}, "no numbers"),
    ],
)
def test_contents_that_do_not_fit_are_refused(saved, spec, tensors, match):
    path, _, runner, _ = saved
    rewrite(path, tensors)
    refused(path, runner, spec(), match)


def test_a_digest_is_checked(saved, spec):
    path, _, runner, _ = saved
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    refused(path, runner, spec(), "is damaged")


def test_any_cut_or_foreign_file_is_refused(saved, spec, tmp_path):
    path, _, runner, _ = saved
    data = path.read_bytes()
    for length in (0, 4, 8, 20, 300, len(data) - 1):
        path.write_bytes(data[:length])
        refused(path, runner, spec(), "cannot be read as a snapshot|no snapshot")
    path.write_bytes((1 << 40).to_bytes(8, "little") + data[8:])
    refused(path, runner, spec(), "header would take 1099511627776 bytes")
    header = json.dumps({"kv": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(path, runner, spec(), "cannot be read as a snapshot")
    refused(tmp_path, runner, spec(), "is no file")
    refused(tmp_path / "absent", runner, spec(), "is no file")


def test_what_does_not_fit_the_context_or_the_cells_is_refused(saved, spec, build_runner):
    path, _, runner, _ = saved
    _, small = build_runner(context=29)
    refused(path, small, spec(), "holds 30 tokens, the context is 29")
    load_snapshot(path, runner, spec(), MODEL).close()
    kept = load_snapshot(path, runner, spec(), MODEL)
    with pytest.raises(CapacityError, match="30 cells are needed"):
        load_snapshot(path, runner, spec(), MODEL)
    assert kept.length == 30
