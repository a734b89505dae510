"""The packed-weight cache of LiteRT: built once, found again, built anew where it is damaged."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgesdk
from converters.convert import ConvertOptions, convert
from edgesdk.backends.litert import weight_cache
from edgesdk.backends.litert.weight_cache import find_weight_cache, forgotten_on_failure
from edgesdk.bundle.reader import open_bundle

TINY = Path(__file__).parents[3] / "data" / "tiny"
TOKENS = np.arange(5, 25, dtype=np.int32)
SCORE = (
    "import sys, json, numpy, edgesdk\n"
    "with edgesdk.load(sys.argv[1], backend='litert', threads=1) as model:\n"
    "    logits = model.score(numpy.arange(5, 25, dtype=numpy.int32))\n"
    "    print(json.dumps([model.receipt.weight_cache, logits.sum(1).tolist()]))\n"
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
        return model.receipt.weight_cache, model.score(TOKENS)


def test_what_one_load_builds_the_next_one_finds(bundle, folder):
    first, expected = score(bundle)
    (built,) = folder.iterdir()
    second, found = score(bundle)
    assert (first, second) == ("built", "hit")
    assert built.name.endswith(f"-{built.stat().st_size}.bin")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kept", [0, 10, 5000])
def test_a_cut_file_is_built_anew_beside_those_who_map_it(bundle, folder, kept):
    _, expected = score(bundle)
    (built,) = folder.iterdir()
    os.truncate(built, kept)
    damaged = built.stat().st_ino
    with built.open("rb"):  # keeps the number of the damaged file from being used again
        state, found = score(bundle)
        (again,) = folder.iterdir()
        assert (state, again.name) == ("built", built.name)
        assert again.stat().st_ino != damaged
    np.testing.assert_array_equal(found, expected)
    assert score(bundle)[0] == "hit"


def test_every_version_and_processor_has_its_own(folder, monkeypatch):
    def key():
        return find_weight_cache("ab" * 32).key

    first = key()
    assert first == key() != find_weight_cache("cd" * 32).key
    with monkeypatch.context() as patch:
        patch.setattr(weight_cache, "version", lambda package: "9.9")
        assert key() != first
    with monkeypatch.context() as patch:
        patch.setattr(weight_cache, "_processor", lambda: "another")
        assert key() != first


def test_what_a_killed_process_left_goes_away(bundle, folder):
    folder.mkdir()
    old, new = folder / "a.1.building", folder / "b.2.building"
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    mine = find_weight_cache("ab" * 32).path
    mine.write_bytes(b"of a process that had the same number")
    assert not find_weight_cache("ab" * 32).path.exists()
    assert new.exists()
    assert not old.exists()


def test_what_nothing_has_used_for_long_goes_when_another_is_built(bundle, folder):
    folder.mkdir()
    unused, used = folder / "a-4.bin", folder / "b-4.bin"
    for path, days in ((unused, 61), (used, 59)):
        path.write_bytes(b"pack")
        os.utime(path, (time.time() - days * 86400,) * 2)
    assert score(bundle)[0] == "built"
    assert used.exists()
    assert not unused.exists()
    (mine,) = set(folder.iterdir()) - {used}
    os.utime(mine, (time.time() - 61 * 86400,) * 2)
    assert score(bundle)[0] == "hit"
    assert mine.stat().st_mtime > time.time() - 3600


def test_two_processes_build_at_once(bundle, folder):
    command = [sys.executable, "-c", SCORE, str(bundle)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in started]
    assert answers[0][1] == answers[1][1]
    assert "built" in (answers[0][0], answers[1][0])
    assert len(list(folder.iterdir())) == 1
    assert score(bundle)[0] == "hit"


def test_what_a_failing_block_built_goes_with_it(bundle, folder):
    digest = open_bundle(bundle).manifest.files["variants/litert-w8-round/model.tflite"].sha256

    def fail():
        found = score(bundle)[0]
        find_weight_cache("ab" * 32).path.write_bytes(b"half, of another model")
        raise KeyboardInterrupt(found)

    with pytest.raises(KeyboardInterrupt, match="built"), forgotten_on_failure([digest]):
        fail()
    assert [path.name.partition(".")[2] for path in folder.iterdir()] == [f"{os.getpid()}.building"]
    with forgotten_on_failure([digest]):
        score(bundle)
    with pytest.raises(KeyboardInterrupt, match="hit"), forgotten_on_failure([digest]):
        fail()
    assert score(bundle)[0] == "hit"  # it was there before
