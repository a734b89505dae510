"""Packed weights of ONNX Runtime: kept, found again, written anew where they are damaged."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from edgesdk.backends import onnxruntime_prepacked, onnxruntime_resident
from edgesdk.backends.onnxruntime_resident import open_resident
from edgesdk.backends.onnxruntime_session import open_session
from edgesdk.backends.opened import OpenRequest
from edgesdk.bundle.reader import open_bundle
from edgesdk.errors import DeviceError

SCORE = (
    "import sys, json, numpy\n"
    "from edgesdk.backends.onnxruntime_resident import open_resident\n"
    "from edgesdk.backends.opened import OpenRequest\n"
    "from edgesdk.bundle.reader import open_bundle\n"
    "bundle = open_bundle(sys.argv[1])\n"
    "opened = open_resident(OpenRequest(bundle, bundle.variant('resident'), 1))\n"
    "logits = opened.model.new_sequence().score(numpy.arange(5, 25, dtype=numpy.int32))\n"
    "print(json.dumps([opened.weight_cache, logits.sum(1).tolist()]))\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onnxruntime"


@pytest.fixture
def ask(onnx_bundle):
    return OpenRequest(onnx_bundle.bundle, onnx_bundle.bundle.variant("resident"), 1)


def score(ask, onnx_bundle):
    opened = open_resident(ask)
    found = opened.model.new_sequence().score(onnx_bundle.tokens)
    opened.model.close()
    return opened.weight_cache, found


def test_what_one_load_writes_the_next_one_maps(ask, onnx_bundle, folder):
    first, expected = score(ask, onnx_bundle)
    second, found = score(ask, onnx_bundle)
    assert (first, second) == ("built", "hit")
    assert len(list(folder.iterdir())) == 1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, onnx_bundle.logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin", "sizes.json"])
@pytest.mark.parametrize("kept", [0, 20])
def test_a_cut_file_is_written_anew(ask, onnx_bundle, folder, name, kept):
    _, expected = score(ask, onnx_bundle)
    (built,) = folder.iterdir()
    os.truncate(built / name, kept)
    state, found = score(ask, onnx_bundle)
    assert state == "built"
    np.testing.assert_array_equal(found, expected)
    assert score(ask, onnx_bundle)[0] == "hit"


def test_a_model_that_is_damaged_in_place_is_written_anew(ask, onnx_bundle, folder):
    _, expected = score(ask, onnx_bundle)
    (built,) = folder.iterdir()
    size = (built / "model.onnx").stat().st_size
    (built / "model.onnx").write_bytes(b"\xff" * size)
    state, found = score(ask, onnx_bundle)
    assert state == "built"
    np.testing.assert_array_equal(found, expected)


def test_every_version_and_processor_has_its_own(ask, onnx_bundle, folder, monkeypatch):
    score(ask, onnx_bundle)
    monkeypatch.setattr(onnxruntime_prepacked, "processor", lambda: "another")
    assert score(ask, onnx_bundle)[0] == "built"
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    assert score(ask, onnx_bundle)[0] == "built"
    assert len(list(folder.iterdir())) == 3


def test_without_a_folder_weights_are_packed_in_memory(ask, onnx_bundle, folder):
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    opened = open_resident(ask)
    assert opened.weight_cache is None
    assert "packed" in opened.notes[0]


def test_a_damaged_model_is_refused_and_leaves_nothing(ask, onnx_bundle, folder, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(DeviceError, match=r"cannot load model\.onnx"):
        onnxruntime_prepacked.open_prepacked(path, ["ab" * 32], 1)
    assert not list(folder.iterdir())


def test_what_nothing_has_used_for_long_goes_when_another_is_written(ask, onnx_bundle, folder):
    folder.mkdir(parents=True)
    for name, days in (("unused", 61), ("used", 59), ("x.1.building", 1), ("x.2.building", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    assert score(ask, onnx_bundle)[0] == "built"
    (mine,) = {path.name for path in folder.iterdir()} - {"used", "x.2.building"}
    os.utime(folder / mine, (time.time() - 61 * 86400,) * 2)
    assert score(ask, onnx_bundle)[0] == "hit"
    assert (folder / mine).stat().st_mtime > time.time() - 3600


def test_two_processes_write_at_once(ask, onnx_bundle, folder):
    command = [sys.executable, "-c", SCORE, str(onnx_bundle.bundle.path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in started]
    assert answers[0][1] == answers[1][1]
    assert "built" in (answers[0][0], answers[1][0])
    assert len(list(folder.iterdir())) == 1
    assert score(ask, onnx_bundle)[0] == "hit"


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3", "phi3"])
def test_small_matrices_keep_their_answers(name, folder, tmp_path, request, monkeypatch):
    """Their scales are so short that they may stay apart from what they are packed into."""
    pytest.importorskip("onnx", reason="needs the extra 'convert'")
    from converters.convert import ConvertOptions, convert

    options = ConvertOptions(targets=("onnx",), recipes=("w8-round", "w4b32-round"), context=64, prove=False)
    source = request.config.rootpath / "tests/data/tiny" / name
    bundle = open_bundle(convert(str(source), tmp_path / "bundle", options))
    tokens = np.arange(5, 25, dtype=np.int32)
    for variant in bundle.manifest.variants:
        asked = OpenRequest(bundle, variant, 1)
        found = [open_resident(asked) for _ in range(2)]
        assert [opened.weight_cache for opened in found] == ["built", "hit"]
        with monkeypatch.context() as patch:
            patch.setattr(
                onnxruntime_resident,
                "open_prepacked",
                lambda path, digests, threads: (open_session(path, threads), None),
            )
            plain = open_resident(asked)
        expected = plain.model.new_sequence().score(tokens)
        assert np.isfinite(expected).all()
        for opened in found:
            np.testing.assert_allclose(opened.model.new_sequence().score(tokens), expected, rtol=0, atol=1e-4)
