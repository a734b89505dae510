"""Models of peers: made aside, put in place whole, kept."""

import hashlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

BUILDER = """
import sys
from pathlib import Path

arguments = sys.argv[1:]
folder = Path(arguments[arguments.index("-o") + 1])
(folder / "genai_config.json").write_text(arguments[arguments.index("-p") + 1])
"""
"""Stands where onnxruntime_genai.models.builder does, for an interpreter that has neither it nor PyTorch."""


@pytest.fixture(scope="module")
def peer_models(benchmark_module):
    return benchmark_module("peer_models")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(b"no model")
    return path


@pytest.fixture
def homes(tmp_path):
    return lambda: sorted(path.name.split(".", 1)[1] for path in (tmp_path / "cache" / "peers").iterdir())


def test_a_maker_that_fails_leaves_nothing_and_says_why(peer_models, source, homes):
    for make in (peer_models.dequantised, peer_models.genai_model, peer_models.litert_lm_model):
        with pytest.raises(click.ClickException, match=r"could not read it: .*No module named .torch."):
            make(Path(sys.executable), source)
    assert homes() == []


def test_a_builder_runs_once(peer_models, source, homes, tmp_path, monkeypatch):
    package = tmp_path / "path" / "onnxruntime_genai" / "models"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "builder.py").write_text(BUILDER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    (tmp_path / "cache" / "peers" / f"model-{digest[:8]}.float32").mkdir(parents=True)
    folder = peer_models.genai_model(Path(sys.executable), source)
    assert (folder / "genai_config.json").read_text() == "int4"
    assert homes() == ["float32", "genai-int4"]
    monkeypatch.setattr(subprocess, "run", None)  # not called again
    assert peer_models.genai_model(Path(sys.executable), source) == folder


def test_litert_lm_takes_the_smallest_cache_that_fits(benchmark_module, tmp_path):
    for size in (672, 2048):
        (tmp_path / f"{size}.litertlm").touch()
    fitting = benchmark_module("workers.litertlm_files").fitting
    assert [fitting(tmp_path, tokens).name for tokens in (33, 672, 673, 2048, 2049)] == [
        "672.litertlm",
        "672.litertlm",
        "2048.litertlm",
        "2048.litertlm",
        "2048.litertlm",
    ]
    one = tmp_path / "672.litertlm"
    assert fitting(one, 2000) == one
