"""How each peer is set up: an environment of its own, and the model in its format.

A setup either gives what a contender is started with, or fails with a reason, which becomes its row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from peer import make_environment, peer_model, peer_python
from peer_models import genai_model, litert_lm_model

from edgesdk.bundle.reader import Bundle

LLAMA_KINDS = ("Q8_0", "Q4_0", "Q4_1")
OUR_BACKENDS = {"litert": ("litert",), "onnx-resident": ("onnxruntime",), "onnx-step": ("openvino",)}
"""Backends to measure, by the format of a variant; other step variants in ONNX are meant for NPUs."""

OPENVINO = ("openvino-genai",)
# What makes their models loads the checkpoint with transformers, hence with PyTorch.
PYTORCH = ("torch", "transformers", "accelerate", "gguf", "sentencepiece")
LITERT_LM = ("litert-lm-api", "litert-torch", *PYTORCH)
GENAI_BUILDER = ("onnxruntime-genai", "onnx", "onnx-ir", *PYTORCH)


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
    bundles: Sequence[Bundle], source: Path, pythons: dict[str, Path], litert_lm: Path | None
) -> Iterator[Entrant]:
    """Every peer, then every variant of the bundles on every backend that suits.

    Args:
        bundles: ours.
        source: the GGUF file that they were converted from.
        pythons: interpreters that exist, by the name of a peer.
        litert_lm: a .litertlm file or a folder of some, named by the tokens of their caches; None to make it.
    """
    for kind in LLAMA_KINDS:
        yield Entrant(
            f"llama.cpp {kind}", True, lambda kind=kind: _llama(kind, source, pythons.get("llama.cpp"))
        )
    yield Entrant("openvino-genai GGUF", True, lambda: _openvino(source, pythons.get("openvino-genai")))
    yield Entrant("onnxruntime-genai int4", True, lambda: _genai(source, pythons.get("onnxruntime-genai")))
    yield Entrant("LiteRT-LM", True, lambda: _litert_lm(litert_lm, source, pythons.get("litert-lm")))
    for bundle in bundles:
        for variant in bundle.manifest.variants:
            if variant.format == "onnx-step" and variant.device_classes[0] != "cpu":
                continue
            for backend in OUR_BACKENDS.get(variant.format, ()):
                yield Entrant(f"edgesdk {variant.name}", False, partial(_ours, bundle, variant.name, backend))


def _llama(kind: str, source: Path, given: Path | None) -> Setup:
    python = given or _tried(peer_python)
    model = _tried(lambda: peer_model(python, kind, source))
    return Setup("llamacpp_worker.py", python, {"model": str(model)}, (model,))


def _openvino(source: Path, given: Path | None) -> Setup:
    python = given or _tried(lambda: make_environment("openvino-genai", OPENVINO))
    return Setup("openvino_worker.py", python, {"model": str(source)}, (source,))


def _genai(source: Path, given: Path | None) -> Setup:
    python = given or _tried(lambda: make_environment("onnxruntime-genai", GENAI_BUILDER))
    folder = _tried(lambda: genai_model(python, source))
    return Setup("genai_worker.py", python, {"model": str(folder)}, tuple(folder.glob("*.onnx*")))


def _litert_lm(model: Path | None, source: Path, given: Path | None) -> Setup:
    python = given or _tried(lambda: make_environment("litert-lm", LITERT_LM))
    found = model or _tried(lambda: litert_lm_model(python, source))
    files = sorted(found.glob("*.litertlm")) if found.is_dir() else [found]
    if not files:
        raise SetupError(f"{found} has no .litertlm file")
    # One of them runs at a time, and they differ little in size.
    return Setup("litertlm_worker.py", python, {"model": str(found)}, (files[-1],))


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
