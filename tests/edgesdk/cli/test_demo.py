"""The demo over the tiny checkpoint: every part of it runs; its answer means nothing."""

import pytest

from edgesdk.cli import demo


@pytest.fixture(autouse=True)
def small(monkeypatch, tiny_checkpoint):
    monkeypatch.setattr(demo, "MODEL", str(tiny_checkpoint))
    for name, value in (("_PROMPT_TOKENS", 16), ("_NEW_TOKENS", 2), ("_REPEAT", 1)):
        monkeypatch.setattr(demo, name, value)


def test_it_does_the_main_job(edgesdk, tmp_path):
    result = edgesdk("demo", "--recipe", "f32", "--keep", tmp_path / "kept")
    assert result.code == 0
    assert result.err.startswith("Fetches ")
    for text in (demo.QUESTION, "litert-f32", "onnx-f32", "passed", "litert on cpu", "instruction sets"):
        assert text in result.out
    speed = result.out[result.out.index("Speed on this machine") :]
    assert all(backend in speed for backend in ("litert", "onnxruntime", "onnxruntime_genai"))
    assert (tmp_path / "kept" / "manifest.json").exists()
    again = edgesdk("demo", "--keep", tmp_path / "kept")
    assert again.code == 1
    assert again.error.endswith("kept holds a bundle; choose another folder")


def test_without_keep_nothing_stays(edgesdk, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert edgesdk("demo", "--recipe", "f32").code == 0
    assert not list(tmp_path.glob("edgesdk-demo-*"))
