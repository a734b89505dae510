"""What benchmarks/quality.py measures: variants of bundles, and llama.cpp on GGUF files.

A candidate says what it is without being loaded; it loads when the first window is scored.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import click
import numpy as np
from numpy.typing import NDArray
from peer import WORKERS

import edgesdk
from edgesdk.backends.registry import find_backends
from edgesdk.bundle.manifest import Variant
from edgesdk.bundle.reader import open_bundle
from edgesdk_converters.checkpoints.digests import describe_file

Window = NDArray[np.int32]

_WEIGHT_FILES = (".tflite", ".onnx", ".data", ".bin")


class Candidate(Protocol):
    """Something that gives logits.

    Attributes:
        name: for the table.
        kind: `edgesdk` or `llama.cpp`.
        recipe: of the weights.
        engine: what runs it, with its version.
        weights_bytes: size of the files that hold the weights.
        digest: changes when files or engine do.
    """

    name: str
    kind: str
    recipe: str
    engine: str
    weights_bytes: int
    digest: str

    def score(self, window: Window) -> NDArray[np.float32]:
        """Logits after each token: (n, V)."""

    def close(self) -> None:
        """Frees what `score` loaded."""


class BundleCandidate:
    """A variant of a bundle, as a backend executes it."""

    kind = "edgesdk"

    def __init__(self, bundle: Path, variant: Variant, backend: str, threads: int) -> None:
        """Reads the manifest only.

        Args:
            bundle: its folder.
            variant: of that bundle.
            backend: one that opens the variant's format.
            threads: for the backend.
        """
        package = find_backends(backend)[0].package
        files = open_bundle(bundle).manifest.files
        folder = f"{Path(variant.entry).parent.as_posix()}/"
        records = {name: record for name, record in files.items() if name.startswith(folder)}
        self._arguments = (str(bundle), variant.name, backend, threads)
        self._model: edgesdk.Model | None = None
        self.name = f"{variant.name} ({backend})"
        self.recipe = variant.recipe
        self.engine = f"{backend}, {package} {version(package)}"
        self.weights_bytes = sum(
            record.size_bytes for name, record in records.items() if name.endswith(_WEIGHT_FILES)
        )
        parts = [self.engine, *(f"{name[len(folder) :]} {records[name].sha256}" for name in sorted(records))]
        self.digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def score(self, window: Window) -> NDArray[np.float32]:
        """Logits after each token: (n, V)."""
        if self._model is None:
            bundle, variant, backend, threads = self._arguments
            self._model = edgesdk.load(bundle, variant=variant, backend=backend, threads=threads, strict=True)
        return self._model.score(window)

    def close(self) -> None:
        """Unloads the model."""
        if self._model is not None:
            self._model.close()
            self._model = None


class PeerCandidate:
    """A GGUF file in llama.cpp, in a process of the peer's own environment."""

    kind = "llama.cpp"

    def __init__(self, python: Path, engine: str, kind: str, model: Path, context: int, threads: int) -> None:
        """Hashes the file.

        Args:
            python: of the peer's environment.
            engine: the peer's name and version.
            kind: llama.cpp's type.
            model: a GGUF file.
            context: longest window.
            threads: for llama.cpp.
        """
        described = describe_file(model)
        worker = WORKERS / "llamacpp_logits.py"
        self._command = [str(python), str(worker), str(model), str(context), str(threads)]
        self._process: subprocess.Popen[str] | None = None
        self.name = f"llama.cpp {kind}"
        self.recipe = kind
        self.engine = engine
        self.weights_bytes = described.size_bytes
        self.digest = hashlib.sha256(f"{engine}\n{described.sha256}".encode()).hexdigest()

    def score(self, window: Window) -> NDArray[np.float32]:
        """Logits after each token: (n, V)."""
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "logits.npy"
            self._ask({"tokens": window.tolist(), "out": str(out)})
            return np.load(out, allow_pickle=False)

    def tokenize(self, text: str) -> list[int]:
        """Token ids as llama.cpp finds them."""
        return list(self._ask({"text": text})["tokens"])

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.communicate()  # closes its input, which ends its loop
            self._process = None

    def _ask(self, request: dict[str, object]) -> dict:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._read()
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise click.ClickException(
                f"{self.name} ended with status {status}; run {' '.join(self._command)}"
            )
        return json.loads(line)


def peer_engine(python: Path) -> str:
    """Name and version of what an interpreter has as llama_cpp.

    Raises:
        click.ClickException: it has none.
    """
    command = [str(python), "-c", "import llama_cpp; print(llama_cpp.__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise click.ClickException(f"{python} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise click.ClickException(f"{python} has no llama_cpp; install llama-cpp-python there")
    return f"llama-cpp-python {done.stdout.strip()}"
