"""The table of architectures in docs/models.md says what the tests convert."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra 'convert'")

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_models_table", DOCS / "make_models_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_current(script):
    written = (DOCS / "models.md").read_text(encoding="utf-8")
    assert written == script.with_table(written), "run python docs/make_models_table.py"


def test_every_architecture_has_a_row_and_a_target(script):
    from edgesdk_converters.architectures.registry import ARCHITECTURES

    rows = script.make_table().splitlines()[2:]
    assert len(rows) == len(ARCHITECTURES)
    assert all("compared" in row for row in rows)
