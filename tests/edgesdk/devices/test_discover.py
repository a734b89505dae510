import sys
import time
from dataclasses import dataclass

import pytest

from edgesdk.devices import discover
from edgesdk.devices.discover import ask_package, list_devices


@dataclass(frozen=True)
class Backend:
    name: str
    package: str
    device_classes: tuple = ("cpu",)


@pytest.fixture
def ask(monkeypatch):
    """Asks an installed package a question of the test's own."""

    def ask_question(code, **options):
        monkeypatch.setattr(discover, "_QUESTIONS", {"numpy": code})
        return ask_package("numpy", **options)

    return ask_question


def test_rows_for_backends_and_for_classes_that_nobody_serves():
    rows = list_devices([Backend("one", "onnxruntime", ("cpu", "gpu")), Backend("two", "no-such-package")])
    assert [(row.backend, row.device, row.usable) for row in rows] == [
        ("one", "cpu", True),
        ("one", "gpu", True),
        ("two", "cpu", False),
        ("-", "npu", False),
    ]
    assert "CPUExecutionProvider" in rows[0].providers
    assert rows[0].version
    assert rows[2].reason == "the package no-such-package is not installed"
    assert rows[2].version is None
    assert rows[3].reason == "no backend runs on npu in this version"


def test_every_package_of_a_backend_has_a_question():
    from edgesdk.backends.registry import BACKENDS

    assert {backend.package for backend in BACKENDS} <= set(discover._QUESTIONS)


def test_core_ml_is_not_there_because_coremltools_is(monkeypatch):
    monkeypatch.setattr(discover, "_QUESTIONS", {"numpy": "print('[\"ALL\"]')"})
    candidates = [Backend("coreml", "numpy", ("npu",)), Backend("coreml-interpreter", "numpy")]
    for system, usable in (("Linux", False), ("Darwin", True)):
        monkeypatch.setattr(discover.platform, "system", lambda system=system: system)
        core_ml, interpreter = list_devices(candidates)[:2]
        assert (core_ml.usable, bool(core_ml.providers), interpreter.usable) == (usable, usable, True)


def test_an_answer_is_the_last_line(ask):
    answer = ask("print('welcome!'); print('[\"A\", \"B\"]')")
    assert (answer.providers, answer.reason) == (("A", "B"), None)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_package_that_aborts_is_a_reason(ask):
    answer = ask("import os, sys; print('bad board', file=sys.stderr, flush=True); os.abort()")
    assert answer.reason == "importing numpy ended with signal 6: bad board"
    assert answer.version


def test_a_package_that_fails_is_a_reason(ask):
    answer = ask("import no_such_module")
    assert answer.reason.startswith("importing numpy ended with status 1: ModuleNotFoundError")


def test_a_package_that_hangs_is_ended(ask):
    started = time.monotonic()
    answer = ask("import time; time.sleep(60)", time_limit_s=1)
    assert answer.reason == "importing numpy did not end within 1 s"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("code", ["", "print('not json')", "print('{}')"])
def test_nonsense_is_a_reason(code, ask):
    assert ask(code).reason == "numpy gave no answer that can be read"


def test_a_file_of_that_name_in_the_current_folder_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert ask_package("onnxruntime").reason is None
