import sys
import time

import pytest

from edgesdk.devices.run_probe import run_probe

GOOD = (
    "from edgesdk.devices.probes.answer import write_answer; "
    "write_answer([{'device': 'gpu', 'provider': 'P', 'name': 'N', 'memory_bytes': 5}], ['Q'])"
)


def ask(code, limit=20.0):
    return run_probe(("-c", code), limit)


def test_an_answer_is_found_among_other_lines():
    answer = ask(f"print('welcome'); {GOOD}; print('bye')")
    (found,) = answer.findings
    assert (found.device, found.provider, found.name, found.memory_bytes) == ("gpu", "P", "N", 5)
    assert (found.vendor, found.driver, found.reason) == ("", None, None)
    assert (answer.unproven, answer.reason) == (("Q",), None)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_one_that_aborts_is_a_reason():
    answer = ask("import os, sys; print('bad board', file=sys.stderr, flush=True); os.abort()")
    assert answer.reason == "it ended with signal 6: bad board"


def test_an_answer_given_before_a_crash_at_the_end_counts():
    assert ask(f"{GOOD}; import os; os._exit(3)").findings


def test_one_that_fails_is_a_reason():
    reason = ask("import no_such_module").reason
    assert reason == "it ended with status 1: ModuleNotFoundError: No module named 'no_such_module'"


def test_one_that_hangs_is_ended_with_its_children():
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import subprocess, sys, time; {child}"
    started = time.monotonic()
    assert ask(f"{code}; time.sleep(60)", 1.0).reason == "it did not end within 1.0 s"
    assert time.monotonic() - started < 20


def test_one_that_prints_without_end_is_ended():
    assert ask("while True: print('x' * 1000)").reason == "it printed more than 1 MiB"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "edgesdk-answer: ",
        "edgesdk-answer: []",
        "edgesdk-answer: {}",
        'edgesdk-answer: {"devices": 3, "unproven": []}',
        'edgesdk-answer: {"devices": [7], "unproven": []}',
        'edgesdk-answer: {"devices": [{"device": "toaster"}], "unproven": []}',
        "edgesdk-answer: " + "[" * 5000,
    ],
)
def test_nonsense_is_a_reason(line):
    assert ask(f"print({line!r})").reason == "it gave no answer that can be read"


def test_a_file_of_that_name_in_the_current_folder_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    answer = run_probe(("-m", "edgesdk.devices.probes.ask_onnxruntime"), 60)
    assert "CPUExecutionProvider" in {found.provider for found in answer.findings}
