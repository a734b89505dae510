"""How each peer is set up: an environment of its own, and the model in its format.

A setup either gives what a contender is started with, or fails with a reason, which becomes its row.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from peer import make_environment, peer_model, peer_python

from converters.checkpoints.digests import describe_file
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.reader import Bundle

LLAMA_KINDS = ("Q8_0", "Q4_0", "Q4_1")
OUR_BACKENDS = {"litert": ("litert",), "onnx-resident": ("onnxruntime",)}
"""Backends to measure, by the format of a variant; step variants in ONNX are meant for NPUs."""

OPENVINO = ("openvino-genai",)
LITERT_LM = ("litert-lm-api",)
GENAI = ("onnxruntime-genai",)
# Its builder loads the checkpoint with transformers, hence with PyTorch.
GENAI_BUILDER = (*GENAI, "torch", "transformers", "onnx", "onnx-ir", "gguf", "sentencepiece")


class SetupError(Exception):
    """A peer cannot be set up here."""


@dataclass(frozen=True)
class Setup:
    """What a contender is started with.

    Attributes:
        worker: file name in benchmarks/workers.
        python: interpreter.
        settings: of the worker, beside threads, context and vocabulary.
        files: what it reads weights from.
        environment: variables to set.
    """

    worker: str
    python: Path
    settings: dict[str, str]
    files: tuple[Path, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def file_bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True)
class Entrant:
    """A contender to be.

    Attributes:
        name: for tables.
        is_peer: whether ratios are against it.
        set_up: gives its setup, or fails.
    """

    name: str
    is_peer: bool
    set_up: Callable[[], Setup]


def list_entrants(
    bundle: Bundle, source: Path, pythons: dict[str, Path], litert_lm: Path | None
) -> Iterator[Entrant]:
    """Every peer, then every variant of the bundle on every backend that suits.

    Args:
        bundle: ours.
        source: the GGUF file that it was converted from.
        pythons: interpreters that exist, by the name of a peer.
        litert_lm: a model for LiteRT-LM; None where there is none.
    """
    for kind in LLAMA_KINDS:
        yield Entrant(
            f"llama.cpp {kind}", True, lambda kind=kind: _llama(kind, source, pythons.get("llama.cpp"))
        )
    yield Entrant("openvino-genai GGUF", True, lambda: _openvino(source, pythons.get("openvino-genai")))
    yield Entrant("onnxruntime-genai int4", True, lambda: _genai(source, pythons.get("onnxruntime-genai")))
    yield Entrant("LiteRT-LM", True, lambda: _litert_lm(litert_lm, pythons.get("litert-lm")))
    for variant in bundle.manifest.variants:
        for backend in OUR_BACKENDS.get(variant.format, ()):
            yield Entrant(
                f"edgesdk {variant.name}", False, lambda v=variant.name, b=backend: _ours(bundle, v, b)
            )


def _llama(kind: str, source: Path, given: Path | None) -> Setup:
    python = given or _tried(peer_python)
    model = _tried(lambda: peer_model(python, kind, source))
    return Setup("llamacpp_worker.py", python, {"model": str(model)}, (model,))


def _openvino(source: Path, given: Path | None) -> Setup:
    python = given or _tried(lambda: make_environment("openvino-genai", OPENVINO))
    return Setup("openvino_worker.py", python, {"model": str(source)}, (source,))


def _genai(source: Path, given: Path | None) -> Setup:
    python = given or _tried(lambda: make_environment("onnxruntime-genai", GENAI_BUILDER))
    digest = describe_file(source).sha256
    folder = cache_folder() / "peers" / f"{source.stem}-{digest[:8]}.genai-int4"
    if not (folder / "genai_config.json").exists():
        # Built aside, so that a builder that fails half way leaves nothing that looks whole.
        draft = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        command = [
            *(str(python), "-m", "onnxruntime_genai.models.builder"),
            *("-i", str(source), "-o", str(draft), "-p", "int4", "-e", "cpu"),
            *("-c", str(cache_folder() / "peers" / "genai")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not (draft / "genai_config.json").exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise SetupError(f"its builder failed: {said[-1][:300] if said else 'it said nothing'}")
        draft.replace(folder)
    return Setup("genai_worker.py", python, {"model": str(folder)}, tuple(folder.glob("*.onnx*")))


def _litert_lm(model: Path | None, given: Path | None) -> Setup:
    if model is None:
        raise SetupError(
            "it reads .litertlm files only, which litert-torch makes with PyTorch; give one by --litert-lm"
        )
    python = given or _tried(lambda: make_environment("litert-lm-api", LITERT_LM))
    return Setup("litertlm_worker.py", python, {"model": str(model)}, (model,))


def _ours(bundle: Bundle, variant: str, backend: str) -> Setup:
    folder = bundle.variant(variant).entry.rpartition("/")[0]
    files = tuple(
        bundle.file(name)
        for name in bundle.manifest.files
        if name.startswith(f"{folder}/") and name.endswith((".tflite", ".onnx", ".data"))
    )
    settings = {"model": str(bundle.path), "variant": variant, "backend": backend}
    return Setup("edgesdk_worker.py", Path(sys.executable), settings, files)


def _tried(make: Callable[[], Path]) -> Path:
    """Turns whatever setting up raises into a reason."""
    try:
        return make()
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise SetupError(lines[-1][:300] if lines else type(error).__name__) from error
