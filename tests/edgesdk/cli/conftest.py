"""Runs commands in this process, and a tiny real bundle made by the real `convert`."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgesdk.cli.main import main

TINY = Path(__file__).parents[2] / "data" / "tiny" / "llama"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        """The one line that a failure prints last."""
        line = self.err.splitlines()[-1]
        assert line.startswith("error: "), self.err
        return line


@pytest.fixture
def edgesdk(capfd, monkeypatch):
    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(end.value.code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_checkpoint():
    return TINY


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """Read by many tests, written by none."""
    from edgesdk_converters.convert import ConvertOptions, convert

    options = ConvertOptions(recipes=("f32", "w8"), context=128, allow_parity_miss=True)
    return convert(str(TINY), tmp_path_factory.mktemp("tiny") / "bundle", options)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESDK_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch):
    """Where models with names are kept; empty."""
    folder = tmp_path / "shelf"
    monkeypatch.setenv("EDGESDK_MODELS", str(folder))
    return folder
