"""The window, driven as a user would, on a tiny model on both runtimes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ASKED = "What is the plural of child?"


def texts(window):
    """What is shown, which is what the tree says; a document has one kind of line end."""
    found = [(window.tree[n].role, window.tree[n].text) for n in window.tree.shown()]
    seen = [window.views[n].text.toPlainText() for n in window.tree.shown()]
    assert seen == [text.replace("\r\n", "\n").replace("\r", "\n") for _, text in found]
    return found


def answer(window, until, question):
    window.entry.setPlainText(question)
    window.ask()
    assert window.answering
    assert not window.send.isEnabled()
    until(lambda: not window.answering)
    return window.tree[window.tree.shown()[-1]]


@pytest.fixture(params=["litert-f32", "onnx-f32"])
def one_runtime(bundle, tmp_path, request):
    """The bundle with one variant, as an app ships it."""
    copy = tmp_path / "model"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["variants"] = [v for v in manifest["variants"] if v["name"] == request.param]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_it_answers_and_branches_and_remembers(opened, until, one_runtime):
    window = opened(one_runtime)
    window.apply(replace(window.settings, max_tokens=12, system="Be kind."))
    until(lambda: window.loaded)
    first = answer(window, until, "x")
    assert first.text
    assert "tokens read" in window.receipt_text()
    assert "loaded in" in window.receipt_text()
    assert texts(window) == [("user", "x"), ("assistant", first.text)]
    question = window.tree.shown()[0]
    window.edit(question)
    assert window.entry.toPlainText() == "x"
    other = answer(window, until, "y")
    assert texts(window) == [("user", "y"), ("assistant", other.text)]
    view = window.views[window.tree.shown()[0]]
    view.moves[0].click()
    assert texts(window) == [("user", "x"), ("assistant", first.text)]
    window.views[window.tree.shown()[1]].action.click()  # again
    until(lambda: not window.answering)
    assert window.tree[window.tree.shown()[-1]].text == first.text  # at temperature 0
    assert window.tree.branch(window.tree.shown()[-1]) == (1, 2)
    kept = texts(window)
    window.close()
    again = opened(one_runtime)
    assert texts(again) == kept
    assert again.settings.system == "Be kind."


def test_it_stops_and_goes_on(opened, until, one_runtime):
    window = opened(one_runtime)
    until(lambda: window.loaded)
    window.entry.setPlainText("word " * 60)
    window.ask()
    window.stop.click()
    until(lambda: not window.answering)
    stopped = window.tree.shown()[-1]
    assert window.tree[stopped].note == "stopped"
    assert window.views[stopped].note.text() == "stopped"
    window.new_chat()
    whole = answer(window, until, "x")
    assert whole.note != "stopped"
    assert texts(window) == [("user", "x"), ("assistant", whole.text)]


def test_what_does_not_fit_is_said_where_the_answer_would_be(opened, until, bundle):
    window = opened(bundle)
    until(lambda: window.loaded)
    assert "the context holds 256" in answer(window, until, "word " * 600).note
    assert window.send.isEnabled()


def test_an_empty_shelf_and_a_missing_model_are_lines(opened, until, tmp_path):
    window = opened()
    assert "import one" in window.status.text()
    assert not window.send.isEnabled()
    window.load(str(tmp_path / "nothing"))
    until(lambda: "there is no folder" in window.status.text())


def test_a_bundle_is_imported_with_progress_and_loaded(opened, until, bundle, tmp_path):
    given = shutil.make_archive(str(tmp_path / "given"), "zip", bundle)
    window = opened()
    window.start_import(given)
    seen = []
    window.importing._job.progress.connect(lambda percent, what: seen.append((percent, what)))
    until(lambda: window.loaded)
    assert window.models.currentText() == "given"
    assert seen[-1][0] == 100
    assert all("copying" in what for _, what in seen)


def test_a_checkpoint_is_converted_and_loaded(opened, until):
    window = opened()
    window.start_import(str(ROOT / "tests/data/tiny/llama"))
    seen = []
    window.importing._job.progress.connect(lambda percent, what: seen.append(percent))
    until(lambda: window.loaded)
    assert window.models.currentText().startswith("llama")
    assert len(seen) > 3
    assert seen == sorted(seen)


def test_an_import_is_cancelled_and_leaves_nothing(opened, until, tmp_path):
    from PySide6.QtWidgets import QPushButton

    window = opened()
    window.start_import(str(ROOT / "tests/data/tiny/llama"))
    job = window.importing._job
    until(lambda: job._process.processId() > 0)
    window.importing.findChild(QPushButton).click()
    until(lambda: window.importing is None)
    assert "cancelled" in window.status.text()
    shelf = tmp_path / "shelf"
    assert not [path for path in shelf.glob("*") if not path.name.startswith(".")]


def test_what_is_no_model_is_a_line(opened, until, tmp_path):
    (tmp_path / "note.txt").write_text("no model")
    window = opened()
    window.start_import(str(tmp_path / "note.txt"))
    until(lambda: window.importing is None)
    assert "note.txt" in window.status.text()


def test_a_conversation_that_cannot_be_read_begins_anew(opened, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chat.json").write_text("[{")
    assert opened().tree.shown() == []


def test_the_script_runs_as_a_user_runs_it(bundle, tmp_path, app):
    command = [sys.executable, str(ROOT / "examples/desktop_chat"), str(bundle)]
    command += ["--data", str(tmp_path), "--ask", "x", "--quit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(("whole", "cut after"))
    assert json.loads((tmp_path / "chat.json").read_text())[1]["text"] == "x"


@pytest.mark.real
def test_a_picture_of_the_real_model_in_it(opened, until, converted_once, smollm2_gguf, tmp_path):
    """With EDGESDK_SHOT set to a file the picture is kept: docs/desktop-chat.png is made so."""
    made = converted_once(smollm2_gguf, targets=("litert",), recipes=("w8-round",), context=2048, prove=False)
    named = tmp_path / "shelf" / "smollm2"
    shutil.copytree(made, named)
    window = opened("smollm2")
    until(lambda: window.loaded)
    assert "children" in answer(window, until, ASKED).text
    window.edit(window.tree.shown()[0])
    answer(window, until, "What is the capital of South Korea? One sentence, please.")
    answer(window, until, "List three things to see there.")
    path = os.environ.get("EDGESDK_SHOT", str(tmp_path / "chat.png"))
    until(lambda: window._scroll.verticalScrollBar().value() == window._scroll.verticalScrollBar().maximum())
    picture = window.grab()
    assert picture.save(path)
    image = picture.toImage()
    colours = {image.pixel(x, y) for x in range(0, image.width(), 5) for y in range(0, image.height(), 5)}
    assert len(colours) > 10  # text, not a blank window
