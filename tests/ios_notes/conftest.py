"""The scripts of ios_notes, which are no package, and their folders."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ios_notes"


@pytest.fixture(scope="session")
def ios_notes():
    """The folder."""
    return ROOT


@pytest.fixture(scope="session")
def vectors():
    """The folder of the vectors that are kept in the repository."""
    return ROOT / "EdgeModel" / "Tests" / "EdgeModelTests" / "Vectors"


@pytest.fixture(scope="session")
def script():
    """Imports a script of ios_notes by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module


@pytest.fixture(scope="session")
def swift():
    """The text of a Swift source by its path within the package's sources."""

    def read(name):
        return (ROOT / "EdgeModel" / "Sources" / "EdgeModel" / name).read_text(encoding="utf-8")

    return read


@pytest.fixture(scope="session")
def tiny_bundle(script, tmp_path_factory):
    """A tiny bundle with both Core ML layouts, as make_test_vectors.py makes it."""
    pytest.importorskip("coremltools", reason="needs the extra 'coreml'")
    return script("make_test_vectors").make_bundle("qwen3", tmp_path_factory.mktemp("ios") / "qwen3")
