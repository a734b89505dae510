"""Nothing is reported: what ONNX Runtime would write beside its reports does not appear."""

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from edgesdk.backends.onnxruntime_telemetry import VARIABLE, stop_telemetry

OPEN_A_MODEL = """
import sys, time
import edgesdk
from pathlib import Path
from edgesdk.backends.onnxruntime_session import open_session
open_session(Path(sys.argv[1]), 1)
time.sleep(1)  # it reports from a thread of its own
"""
ASK_GENAI = """
import sys, time
from pathlib import Path
import edgesdk
from edgesdk.backends.onnxruntime_genai import GenaiModel
GenaiModel(Path(sys.argv[1]).parent, 32, 64, threads=1)
time.sleep(1)
"""
SHOW = f"import edgesdk, os; print(os.environ[{VARIABLE!r}])"


@pytest.fixture
def fresh(tmp_path):
    """Environment of a user who has never run anything: no setting, and not taken for a CI machine."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    home, temporary = str(tmp_path / "home"), str(tmp_path / "temporary")
    return kept | {"HOME": home, "USERPROFILE": home, "TMPDIR": temporary, "TEMP": temporary}


def run(environment, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=True
    ).stdout


def written(environment):
    folders = (environment["HOME"], environment["TMPDIR"])
    return [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]


def test_a_session_writes_nothing(fresh, onnx_bundle):
    bundle = onnx_bundle.bundle
    run(fresh, "-c", OPEN_A_MODEL, bundle.file(bundle.variant("resident").entry))
    assert written(fresh) == []


def test_genai_writes_nothing(fresh, onnx_bundle):
    pytest.importorskip("onnxruntime_genai")
    bundle = onnx_bundle.bundle
    run(fresh, "-c", ASK_GENAI, bundle.file(bundle.variant("resident").entry))
    assert written(fresh) == []


def test_a_probe_writes_nothing(fresh):
    run(fresh, "-P", "-m", "edgesdk.devices.probes.ask_onnxruntime")
    assert written(fresh) == []


def test_the_users_choice_stands(fresh):
    assert run(fresh, "-c", SHOW).strip() == "1"
    assert run(fresh | {VARIABLE: "0"}, "-c", SHOW).strip() == "0"


@pytest.mark.parametrize(("value", "stopped"), [(None, True), ("1", True), ("0", False)])
def test_a_library_that_was_there_before_is_asked_to_stop(monkeypatch, value, stopped):
    asked = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: asked.append(True))
    if value is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, value)
    stop_telemetry(onnxruntime)
    assert bool(asked) == stopped


def test_a_session_asks_for_it(monkeypatch, onnx_bundle):
    from edgesdk.backends.onnxruntime_session import open_session

    asked = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: asked.append(True))
    bundle = onnx_bundle.bundle
    open_session(bundle.file(bundle.variant("resident").entry), 1)
    assert asked


def test_an_older_library_has_nothing_to_ask():
    stop_telemetry(sys)
