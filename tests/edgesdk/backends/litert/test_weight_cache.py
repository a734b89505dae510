"""The packed-weight cache of LiteRT: built once, found again, not believed when damaged, never in the way."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from edgesdk.backends.litert import weight_cache
from edgesdk.backends.litert.flatbuffer import Flatbuffer
from edgesdk.backends.litert.keep_packed import wait_for_all
from edgesdk.backends.litert.weight_cache import find_packed, forgotten_on_failure, open_weight_cache
from edgesdk.bundle import integrity
from edgesdk.bundle.reader import open_bundle
from edgesdk_converters.convert import ConvertOptions, convert

TINY = Path(__file__).parents[3] / "data" / "tiny"
TOKENS = np.arange(5, 25, dtype=np.int32)
SCORE = (
    "import sys, json, numpy, edgesdk\n"
    "with edgesdk.load(sys.argv[1], backend='litert', threads=1) as model:\n"
    "    logits = model.score(numpy.arange(5, 25, dtype=numpy.int32))\n"
    "    found = model.receipt\n"
    "    print(json.dumps([found.weight_cache, logits.sum(1).tolist(), found.notes]))\n"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    options = ConvertOptions(("litert",), ("w8-round",), 64, prove=False)
    return convert(str(TINY / "llama"), tmp_path_factory.mktemp("weights") / "bundle", options)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path))
    return tmp_path / "xnnpack"


def score(bundle):
    with edgesdk.load(bundle, backend="litert", threads=1) as model:
        found = model.receipt.weight_cache, model.score(TOKENS)
    wait_for_all()
    return found


def score_elsewhere(bundle, limit_bytes=None):
    """The same in a process of its own, whose files may be limited."""

    def limit():
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-c", SCORE, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def packed(folder):
    (found,) = folder.glob("*.bin")
    return found


def test_what_one_load_builds_the_next_one_finds(bundle, folder):
    first, expected = score(bundle)
    built = packed(folder)
    second, found = score(bundle)
    assert (first, second) == ("built", "hit")
    assert sorted(os.listdir(folder)) == sorted([built.name, built.with_suffix(".json").name])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_a_cut_file_is_built_anew_beside_those_who_map_it(bundle, folder, kept):
    _, expected = score(bundle)
    built = packed(folder)
    os.truncate(built, kept)
    damaged = built.stat().st_ino
    with built.open("rb"):  # keeps the number of the damaged file from being used again
        state, found = score(bundle)
        again = packed(folder)
        assert (state, again.name) == ("built", built.name)
        assert again.stat().st_ino != damaged
    np.testing.assert_array_equal(found, expected)
    assert score(bundle)[0] == "hit"


@pytest.mark.parametrize("keep_time", [False, True])
def test_one_changed_byte_anywhere_is_never_believed(bundle, folder, keep_time):
    _, expected = score(bundle)
    draw = random.Random(7)
    for _ in range(6):
        built = packed(folder)
        before = built.stat()
        with built.open("r+b") as file:
            file.seek(draw.randrange(before.st_size))
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1 << draw.randrange(8)]))
        if keep_time:
            os.utime(built, ns=(before.st_atime_ns, before.st_mtime_ns))
        state, found = score(bundle)
        assert state == "built"
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("record", [b"", b"half", None])
def test_a_record_that_is_damaged_or_lost_costs_one_hash(bundle, folder, record):
    score(bundle)
    path = packed(folder).with_suffix(".json")
    whole = path.read_bytes()
    if record is None:
        path.unlink()
    else:
        path.write_bytes(record)
    assert score(bundle)[0] == "hit"
    assert path.read_bytes() == whole


def test_every_version_and_processor_has_its_own(folder, tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.write_bytes(b"model")

    def key(digest="ab" * 32):
        cache = open_weight_cache(digest, model)
        cache.release()
        return cache._key

    first = key()
    assert first == key() != key("cd" * 32)
    with monkeypatch.context() as patch:
        patch.setattr(weight_cache, "package_version", lambda package: "9.9")
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(weight_cache, "_processor", lambda: "another")
        assert key() != first


def test_what_nothing_has_used_for_long_goes_when_another_is_built(bundle, folder):
    folder.mkdir()
    unused, used = folder / "a-4.bin", folder / "b-4.bin"
    for path, days in ((unused, 61), (used, 59)):
        path.write_bytes(b"pack")
        os.utime(path, (time.time() - days * 86400,) * 2)
    assert score(bundle)[0] == "built"
    assert used.exists()
    assert not unused.exists()
    used.unlink()
    record = packed(folder).with_suffix(".json")
    os.utime(record, (time.time() - 61 * 86400,) * 2)
    assert score(bundle)[0] == "hit"
    assert record.stat().st_mtime > time.time() - 3600


def test_a_process_that_ends_at_once_leaves_what_the_next_one_finds(bundle, folder):
    built, sums, _ = score_elsewhere(bundle)
    assert built == "built"
    assert len(list(folder.iterdir())) == 2
    assert score_elsewhere(bundle) == ["hit", sums, []]


def test_the_next_load_of_a_process_waits_for_the_copy(bundle, folder):
    with edgesdk.load(bundle, backend="litert", threads=1) as first:
        assert first.receipt.weight_cache == "built"
        expected = first.score(TOKENS)
        with edgesdk.load(bundle, backend="litert", threads=1) as second:
            assert second.receipt.weight_cache == "hit"
            np.testing.assert_array_equal(second.score(TOKENS), expected)


@pytest.mark.parametrize("packed_before", [False, True])
@pytest.mark.parametrize("place", ["structure", "weights"])
def test_a_damaged_model_is_named_and_nothing_of_it_kept(
    bundle, folder, tmp_path_factory, monkeypatch, place, packed_before
):
    if packed_before:
        score(bundle)
    before = kept(folder)
    copy = shutil.copytree(bundle, tmp_path_factory.mktemp("damaged") / "bundle")
    model = copy / "variants" / "litert-w8-round" / "model.tflite"
    data = bytearray(model.read_bytes())
    data[4 if place == "structure" else weight_at(data)] ^= 0xFF
    model.write_bytes(data)
    opened = []
    real_hash, real_finish = integrity._hash, weight_cache.WeightCache.finish

    def hash_late(*arguments):
        time.sleep(1)  # LiteRT has opened it by then
        return real_hash(*arguments)

    def finish(cache):
        opened.append(True)
        real_finish(cache)

    monkeypatch.setattr(integrity, "_hash", hash_late)
    monkeypatch.setattr(weight_cache.WeightCache, "finish", finish)
    handles = []
    for _ in range(3):
        with pytest.raises(edgesdk.BundleError, match=r"model\.tflite .* is damaged: sha256"):
            edgesdk.load(copy, backend="litert", threads=1)
        handles.append(len(list(Path("/dev/fd").iterdir())))
    # On weights that were packed before, nothing is opened that may be another file.
    assert len(opened) == (3 if place == "weights" and not packed_before else 0)
    assert handles[1] == handles[2]
    wait_for_all()
    assert kept(folder) == before


def kept(folder):
    """All files of the cache."""
    return sorted(path for path in folder.parent.rglob("*") if path.is_file())


def weight_at(data):
    """A byte in the middle of the longest tensor: the file is in order but for its numbers."""
    flat = Flatbuffer(memoryview(bytes(data)))
    buffers = flat.tables(flat.root(b"TFL3"), 4, 1 << 20)
    start, count = max((flat.vector(table, 0, 1) for table in buffers), key=lambda found: found[1])
    return start + count // 2


def test_two_processes_build_at_once(bundle, folder):
    command = [sys.executable, "-c", SCORE, str(bundle)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in started]
    assert answers[0][1] == answers[1][1]
    assert "built" in (answers[0][0], answers[1][0])
    assert packed(folder)
    assert not list(folder.glob(".edgesdk-*"))
    assert score(bundle)[0] == "hit"


@pytest.mark.parametrize(("share", "state"), [(0.05, None), (0.6, None), (0.99, None), (2, "built")], ids=str)
def test_files_that_may_not_grow_cost_the_cache_alone(bundle, folder, share, state):
    _, expected, notes = score_elsewhere(bundle)
    assert not notes
    limit_bytes = int(packed(folder).stat().st_size * share)
    for left in folder.iterdir():
        left.unlink()
    found, sums, notes = score_elsewhere(bundle, limit_bytes)
    assert (found, sums) == (state, expected)
    assert len(list(folder.iterdir())) == (2 if state else 0)
    assert [note.partition(",")[0] for note in notes] == ([] if state else ["packed weights are not kept"])


def test_a_disk_without_room_is_a_note(bundle, folder, monkeypatch):
    none_free = shutil.disk_usage(bundle)._replace(free=0)
    monkeypatch.setattr(weight_cache.shutil, "disk_usage", lambda path: none_free)
    with edgesdk.load(bundle, backend="litert", threads=1) as model:
        assert model.receipt.weight_cache is None
        assert any("free" in note and "not kept" in note for note in model.receipt.notes)
    assert not list(folder.iterdir())


def test_a_folder_that_is_none_is_a_note(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "file"))
    with edgesdk.load(bundle, backend="litert", threads=1) as model:
        assert any("not kept" in note for note in model.receipt.notes)


def test_a_child_packs_where_there_is_no_memory_for_files(bundle, folder, monkeypatch):
    _, expected = score(bundle)
    name = packed(folder).name
    for left in folder.iterdir():
        left.unlink()
    monkeypatch.setattr(weight_cache, "open_packing_memory", lambda size: None)
    state, found = score(bundle)
    assert (state, packed(folder).name) == ("built", name)
    np.testing.assert_array_equal(found, expected)
    assert score(bundle)[0] == "hit"


def test_only_what_is_whole_is_found_without_a_load(bundle, folder):
    digest = open_bundle(bundle).manifest.files["variants/litert-w8-round/model.tflite"].sha256
    assert find_packed(digest) is None
    score(bundle)
    assert find_packed(digest) == packed(folder)
    os.truncate(packed(folder), 100)
    assert find_packed(digest) is None


def test_what_a_failing_block_built_goes_with_it(bundle, folder):
    digest = open_bundle(bundle).manifest.files["variants/litert-w8-round/model.tflite"].sha256

    def fail():
        raise KeyboardInterrupt(score(bundle)[0])

    with pytest.raises(KeyboardInterrupt, match="built"), forgotten_on_failure([digest]):
        fail()
    assert not list(folder.iterdir())
    with forgotten_on_failure([digest]):
        score(bundle)
    with pytest.raises(KeyboardInterrupt, match="hit"), forgotten_on_failure([digest]):
        fail()
    assert score(bundle)[0] == "hit"  # it was there before
