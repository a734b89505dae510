"""What this machine offers: which packages are installed, in which version, and what they can use.

Vendor packages are asked in a process of their own with a time limit: importing one may abort, hang
or print, and a list of devices must survive that. It does not know how backends open a model.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from edgesdk.bundle.manifest import DeviceClass

TIME_LIMIT_S = 30.0
"""For importing one package; the slowest takes a few seconds on a small board."""

_DEVICE_CLASSES: tuple[DeviceClass, ...] = ("cpu", "gpu", "npu")

# Each prints a JSON list of the delegates or execution providers that it can name.
_QUESTIONS: Mapping[str, str] = {
    "ai-edge-litert": """
import json, pathlib, ai_edge_litert
from ai_edge_litert import compiled_model
folder = pathlib.Path(ai_edge_litert.__file__).parent
plugins = sorted(p.stem.removeprefix("lib") for p in folder.glob("*LiteRt*Accelerator*"))
print(json.dumps(["XNNPACK", *plugins]))
""",
    "tflite-runtime": """
import json
from tflite_runtime import interpreter
print(json.dumps(["XNNPACK"]))
""",
    "onnxruntime": """
import json, onnxruntime
print(json.dumps(onnxruntime.get_available_providers()))
""",
    "coremltools": """
import json, platform, coremltools
units = ["ALL", "CPU_AND_GPU", "CPU_ONLY"] if platform.system() == "Darwin" else []
print(json.dumps(["interpreter", *units]))
""",
    "onnxruntime-genai": """
import json, onnxruntime_genai
print(json.dumps(["CPUExecutionProvider"]))
""",
}

# coremltools installs everywhere, to build packages; Core ML itself is part of macOS.
_ONLY_ON_MACOS = ("coreml", "coreml-gpu", "coreml-cpu")


class Candidate(Protocol):
    """What must be known of a backend to ask for it."""

    @property
    def name(self) -> str:
        """As users write it."""

    @property
    def package(self) -> str:
        """Distribution that must be installed."""

    @property
    def device_classes(self) -> tuple[DeviceClass, ...]:
        """Where it runs."""


@dataclass(frozen=True)
class DeviceRow:
    """One backend on one class of devices.

    Attributes:
        backend: its name; `-` for a class of devices that no backend serves.
        device: `cpu`, `gpu` or `npu`.
        package: distribution that it needs; `-` where there is no backend.
        version: of the package; None when it is not installed.
        providers: delegates or execution providers that the package offers on this machine.
        usable: whether the package could be imported.
        reason: why it is not usable; None when it is.
    """

    backend: str
    device: DeviceClass
    package: str
    version: str | None
    providers: tuple[str, ...]
    usable: bool
    reason: str | None


@dataclass(frozen=True)
class PackageAnswer:
    """One package: `version` None when it is not installed, `reason` None when it can be used."""

    version: str | None
    providers: tuple[str, ...]
    reason: str | None


def list_devices(candidates: Sequence[Candidate]) -> tuple[DeviceRow, ...]:
    """Asks for every backend what it can use here.

    Args:
        candidates: `edgesdk.backends.registry.BACKENDS`.

    Returns:
        One row for each backend and class of devices that it serves, then one for each class that
        none of them serves.
    """
    packages = sorted({candidate.package for candidate in candidates})
    with ThreadPoolExecutor(max_workers=max(1, len(packages))) as pool:
        answers = dict(zip(packages, pool.map(ask_package, packages), strict=True))
    rows = []
    for candidate in candidates:
        answer = answers[candidate.package]
        if candidate.name in _ONLY_ON_MACOS and platform.system() != "Darwin":
            answer = replace(answer, reason=answer.reason or "Core ML runs on macOS only", providers=())
        rows += [
            DeviceRow(
                backend=candidate.name,
                device=device,
                package=candidate.package,
                version=answer.version,
                providers=answer.providers,
                usable=answer.reason is None,
                reason=answer.reason,
            )
            for device in candidate.device_classes
        ]
    for device in _DEVICE_CLASSES:
        if not any(device in candidate.device_classes for candidate in candidates):
            reason = f"no backend runs on {device} in this version"
            rows.append(DeviceRow("-", device, "-", None, (), False, reason))
    return tuple(rows)


def ask_package(package: str, time_limit_s: float = TIME_LIMIT_S) -> PackageAnswer:
    """Imports a package in a process of its own and asks what it offers.

    Args:
        package: name of the distribution.
        time_limit_s: seconds until the process is ended.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        return PackageAnswer(None, (), f"the package {package} is not installed")
    question = _QUESTIONS.get(package)
    if question is None:
        return PackageAnswer(found, (), None)
    # -P: a file of the same name in the current folder is not the package.
    command = [sys.executable, "-P", "-c", question]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=time_limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return PackageAnswer(found, (), f"importing {package} did not end within {time_limit_s:.0f} s")
    except OSError as error:
        return PackageAnswer(found, (), f"{package} could not be asked: {error.strerror or error}")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        return PackageAnswer(
            found, (), f"importing {package} ended with {how}: {lines[-1][:200] if lines else 'no message'}"
        )
    return _read_answer(package, found, done.stdout)


def _read_answer(package: str, found: str, output: bytes) -> PackageAnswer:
    """The last line that was printed; a package may have printed others before."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        providers = json.loads(lines[-1]) if lines else None
    except ValueError:
        providers = None
    if not isinstance(providers, list):
        return PackageAnswer(found, (), f"{package} gave no answer that can be read")
    return PackageAnswer(found, tuple(str(provider) for provider in providers), None)
