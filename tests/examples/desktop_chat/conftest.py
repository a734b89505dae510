"""The example's modules, and Qt without a display; skips where Qt cannot be loaded."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LONGEST_S = 120


@pytest.fixture(scope="session")
def example():
    """Imports a module of the example by its name."""
    folder = str(ROOT / "examples" / "desktop_chat")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def app():
    """Qt's application."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    widgets = pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError, reason="Qt cannot be loaded")
    made = widgets.QApplication.instance() or widgets.QApplication([])
    made.setQuitOnLastWindowClosed(False)
    return made


@pytest.fixture
def until(app):
    """Lets the window run until something is so."""

    def wait(reached):
        end = time.monotonic() + LONGEST_S
        while not reached():
            assert time.monotonic() < end, "it did not come to that"
            app.processEvents()
            time.sleep(0.002)

    return wait


@pytest.fixture
def opened(app, example, tmp_path, monkeypatch):
    """Opens windows on a shelf and a data folder of their own, and closes them."""
    monkeypatch.setenv("EDGESDK_MODELS", str(tmp_path / "shelf"))
    windows = []

    def make(model="", data=tmp_path / "data"):
        window = example("window").Window(data, str(model))
        window.resize(820, 640)
        window.show()
        windows.append(window)
        return window

    yield make
    for window in windows:
        window.close()


@pytest.fixture(scope="session")
def bundle(converted_once):
    """A tiny model: it answers nonsense at once."""
    source = ROOT / "tests/data/tiny/llama"
    return converted_once(source, targets=("litert", "onnx"), recipes=("f32",), context=256, prove=False)
