"""What is behind the window, on a tiny model and without a display; the window where there is one."""

import importlib.util
import os
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_S = 60


@pytest.fixture(scope="module")
def bundle(converted_once):
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert",), recipes=("f32",), context=256, prove=False)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("chat_window", ROOT / "examples/chat_window.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def until(talk, *kinds):
    """Everything that happens up to the first event of one of the kinds."""
    found, end = [], time.monotonic() + LONGEST_S
    while not found or found[-1][0] not in kinds:
        assert time.monotonic() < end, found
        found += talk.poll()
        time.sleep(0.005)
    return found


def test_answers_arrive_in_pieces_and_the_next_question_is_taken(example, bundle):
    talk = example.Talk(str(bundle), max_tokens=20)
    assert until(talk, "ready")[-1][1].startswith("llama litert-f32; litert on cpu")
    for _ in range(2):
        talk.ask("x")
        found = until(talk, "done")
        assert found[-1][1] in ("stop", "length")
        assert all(kind == "text" for kind, _ in found[:-1])
    talk.close()


def test_an_answer_can_be_stopped_and_the_next_is_whole(example, bundle):
    talk = example.Talk(str(bundle), max_tokens=20)
    until(talk, "ready")
    asked = talk.ask

    def ask_and_stop(question):
        asked(question)
        talk.stop()

    ask_and_stop("x")
    assert until(talk, "done")[-1][1] in ("cancelled", "stopped")
    asked("x")
    assert until(talk, "done")[-1][1] in ("stop", "length")
    talk.close()


def test_what_cannot_be_loaded_is_a_line(example, tmp_path):
    talk = example.Talk(str(tmp_path / "nothing"))
    assert "there is no folder" in until(talk, "error")[-1][1]
    talk.close()


def test_a_talk_that_is_too_long_says_so(example, bundle):
    talk = example.Talk(str(bundle), max_tokens=20)
    until(talk, "ready")
    talk.ask("word " * 600)
    assert "the context holds 256" in until(talk, "done")[-1][1]
    talk.ask("x")  # the long question is forgotten
    assert until(talk, "done")[-1][1] in ("stop", "length")
    talk.close()


@pytest.mark.skipif(not os.environ.get("DISPLAY"), reason="there is no display")
def test_the_window_shows_an_answer(example, bundle):
    pytest.importorskip("tkinter")
    window = example.Window(str(bundle))
    shown = []

    def look():
        shown.append(window._text.get("1.0", "end"))
        if str(window._ask["state"]) == "normal":
            if "You: x" in shown[-1]:
                window.close()
                return
            window.ask("x")
        window._root.after(20, look)

    window._root.after(20, look)
    window.run()
    assert "You: x\n\n" in shown[-1]
    assert len(shown[-1]) > len("You: x\n\n") + 2
