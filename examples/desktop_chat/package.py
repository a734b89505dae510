"""Makes a folder of the chat that runs on a machine without Python.

    pip install 'edgesdk[desktop,convert]'
    python examples/desktop_chat/package.py OUT

OUT/chat is the folder; start `chat` in it. PyInstaller finds imports by reading code. What it cannot see is
said here: names that edgesdk imports when they are first used, data and native libraries beside packages, and
the packages' versions, which edgesdk reads. Models are not in the folder: they come onto the shelf.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
COLLECTED = ("edgesdk", "edgesdk_converters")
"""All of their modules and data: many are named in tables, none is imported at the top."""

BINARIES = ("ai_edge_litert",)
HIDDEN = ("ai_edge_litert.compiled_model", "onnxruntime", "tokenizers", "jinja2", "llguidance")
VERSIONS = (
    "edgesdk", "ai-edge-litert", "onnxruntime", "tokenizers", "numpy", "jinja2", "safetensors", "gguf",
    "huggingface-hub", "onnx", "onnx-ir", "ml-dtypes", "flatbuffers", "llguidance", "psutil",
)  # fmt: skip
EXCLUDED = (
    "tkinter", "matplotlib", "IPython", "pytest", "jax", "jaxlib", "torch", "scipy", "sklearn", "optax",
    "gensim", "wordfreq", "hypothesis",
    "coremltools", "onnxruntime_genai", "openvino", "mkdocs", "starlette", "uvicorn", "pydantic",
    "playwright", "PIL", "pandas", "sympy", "transformers", "tensorflow", "mypy", "setuptools",
    "edgesdk.server", "edgesdk.retrieval", "edgesdk_converters.training",
    "edgesdk_converters.emit.coreml", "PySide6.QtNetwork", "PySide6.QtQml", "PySide6.QtQuick",
)  # fmt: skip


def arguments(out: Path) -> list[str]:
    """Of PyInstaller."""
    found = ["--noconfirm", "--clean", "--onedir", "--name", "chat", "--paths", str(ROOT)]
    for name in COLLECTED:  # PyInstaller's own search does not see packages that are installed to be edited
        found += ["--paths", str(Path(find_spec(name).submodule_search_locations[0]).parent)]
    found += ["--distpath", str(out), "--workpath", str(out / "work"), "--specpath", str(out / "work")]
    found += [f"--collect-submodules={name}" for name in COLLECTED]
    found += [f"--collect-data={name}" for name in COLLECTED]
    found += [f"--collect-binaries={name}" for name in BINARIES]
    found += [f"--hidden-import={name}" for name in HIDDEN]
    found += [f"--copy-metadata={name}" for name in VERSIONS if _is_installed(name)]
    found += [f"--exclude-module={name}" for name in EXCLUDED]
    return [*found, str(ROOT / "__main__.py")]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Runs PyInstaller and says how large the folder is."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        from PyInstaller.__main__ import run
    except ImportError:
        sys.exit("PyInstaller is not installed; install it with: pip install 'edgesdk[desktop]'")
    out = Path(sys.argv[1]).resolve()
    run(arguments(out))
    size = sum(path.stat().st_size for path in (out / "chat").rglob("*") if not path.is_symlink())
    print(f"{out / 'chat'}: {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
