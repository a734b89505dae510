"""What this machine offers: every device that an installed runtime reaches, or why it does not.

Vendor packages are asked by `edgesdk.devices.probes` in processes of their own, all at once, with one limit
for everything: importing one may abort, hang or print, and a list of devices must survive that. It does not
know how backends open a model.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from typing import Literal, Protocol, cast

from edgesdk.bundle.manifest import DeviceClass
from edgesdk.devices.cpu import Processor
from edgesdk.devices.device import BackendRow, Device
from edgesdk.devices.packages import installed_version
from edgesdk.devices.run_probe import Finding, ProbeAnswer, run_probe
from edgesdk.devices.system_devices import Adapter

TIME_LIMIT_S = 4.0
"""For all probes together; they are ended after it. A list takes at most a second more."""

_DEVICE_CLASSES: tuple[DeviceClass, ...] = ("cpu", "gpu", "npu")
_PROBES = "edgesdk.devices.probes"
_PLUGIN = re.compile(r"onnxruntime-(?:ep-[a-z0-9-]+|qnn|[a-z0-9-]+-ep)")
"""Distributions that bring a plugin execution provider: they have a module of that name with
`get_library_path` and `get_ep_name`."""

_REASON_ONLY_MACOS = "Core ML runs on macOS only"
_REACHES_NOTHING = "no provider that is installed reaches it"


class Candidate(Protocol):
    """What must be known of a backend to say where it runs."""

    @property
    def name(self) -> str:
        """As users write it."""

    @property
    def package(self) -> str:
        """Distribution that must be installed."""

    @property
    def device_classes(self) -> tuple[DeviceClass, ...]:
        """Where it runs."""

    @property
    def provider(self) -> str | None:
        """By which it reaches its devices; None for whatever the package brings."""


@dataclass(frozen=True)
class Library:
    """A plugin library of ONNX Runtime that belongs to no package.

    Attributes:
        name: to register it by.
        path: of the file.
    """

    name: str
    path: str


@dataclass(frozen=True)
class Probe:
    """A question to one package.

    Attributes:
        package: distribution.
        arguments: of the interpreter.
        device: class of the row that says why there was no answer.
        provider: of that row.
    """

    package: str
    arguments: tuple[str, ...]
    device: DeviceClass
    provider: str


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", f"{_PROBES}.{name}", *arguments)


_KNOWN = (
    Probe("ai-edge-litert", _module("ask_litert", "cpu"), "cpu", "XNNPACK"),
    Probe("ai-edge-litert", _module("ask_litert", "gpu"), "gpu", "LiteRT GPU"),
    Probe("ai-edge-litert", _module("ask_litert", "npu"), "npu", "LiteRT NPU"),
    Probe("tflite-runtime", _module("ask_import", "tflite_runtime.interpreter", "XNNPACK"), "cpu", "XNNPACK"),
    Probe("onnxruntime", _module("ask_onnxruntime"), "cpu", "CPUExecutionProvider"),
    Probe(
        "onnxruntime-genai",
        _module("ask_import", "onnxruntime_genai", "CPUExecutionProvider"),
        "cpu",
        "CPUExecutionProvider",
    ),
    Probe("openvino", _module("ask_openvino"), "cpu", "OpenVINO CPU"),
    Probe("coremltools", _module("ask_core_ml"), "npu", "CoreML"),
)


def installed_probes(libraries: Sequence[Library] = ()) -> tuple[Probe, ...]:
    """What to ask: the packages that are installed, and libraries that the user names."""
    # Core ML is part of macOS; elsewhere coremltools only builds packages, and takes seconds to import.
    known = [
        probe
        for probe in _KNOWN
        if installed_version(probe.package) and (probe.package != "coremltools" or _on_macos())
    ]
    for package in plugin_packages():
        arguments = _module("ask_onnxruntime", "--module", package.replace("-", "_"))
        known.append(Probe(package, arguments, _class_of(package), package))
    for library in libraries:
        arguments = _module("ask_onnxruntime", "--library", library.name, library.path)
        known.append(Probe("-", arguments, "npu", library.name))
    return tuple(known)


def plugin_packages() -> tuple[str, ...]:
    """Installed distributions that bring a plugin execution provider for ONNX Runtime."""
    names = {str(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
    return tuple(sorted(name for name in names if _PLUGIN.fullmatch(name)))


def discover(
    processor: Processor,
    *,
    probes: Sequence[Probe] | None = None,
    adapters: Sequence[Adapter] = (),
    time_limit_s: float = TIME_LIMIT_S,
) -> tuple[Device, ...]:
    """Asks every installed runtime for its devices.

    Args:
        processor: names the CPU, which runtimes do not.
        probes: what to ask; `installed_probes()` when None.
        adapters: graphics cards and NPUs that the system knows, listed even if nothing reaches them.
        time_limit_s: for all probes together.

    Returns:
        Devices and failed probes, CPUs first; never raises for what a probe does.
    """
    asked = installed_probes() if probes is None else tuple(probes)
    ends = time.monotonic() + time_limit_s
    devices: list[Device] = []
    # Providers of a wheel that claim to be there are tried in a second round, in what time is left.
    while asked:
        answers = _ask(asked, ends)
        following: list[Probe] = []
        for probe, answer in zip(asked, answers, strict=True):
            devices += _rows(probe, answer)
            for name in answer.unproven:
                arguments = _module("ask_onnxruntime", "--provider", name)
                following.append(Probe(probe.package, arguments, _class_of(name), name))
        asked = tuple(following)
    devices = [_name_cpu(device, processor) for device in devices]
    devices += _unreached(adapters, devices)
    return tuple(sorted(devices, key=lambda d: (_DEVICE_CLASSES.index(d.device), d.provider, d.package)))


def backend_rows(candidates: Sequence[Candidate], devices: Sequence[Device]) -> tuple[BackendRow, ...]:
    """For every backend and class of devices that it serves, whether it can; then the classes without any.

    Args:
        candidates: `edgesdk.backends.registry.BACKENDS`.
        devices: from `discover`.
    """
    rows = [
        _backend_row(candidate, device, devices)
        for candidate in candidates
        for device in candidate.device_classes
    ]
    for device in _DEVICE_CLASSES:
        if not any(device in candidate.device_classes for candidate in candidates):
            reason = f"no backend runs on {device} in this version"
            rows.append(BackendRow("-", device, "-", None, (), False, reason))
    return tuple(rows)


def _backend_row(candidate: Candidate, device: DeviceClass, devices: Sequence[Device]) -> BackendRow:
    installed = installed_version(candidate.package)
    provider = candidate.provider
    mine = [
        d
        for d in devices
        if d.device == device and (d.provider == provider if provider else d.package == candidate.package)
    ]
    reason: str | None = None
    if installed is None:
        reason = f"the package {candidate.package} is not installed"
    elif candidate.package == "coremltools" and not _on_macos():
        # The interpreter is plain numpy over what coremltools reads.
        reason = None if candidate.name.endswith("interpreter") else _REASON_ONLY_MACOS
    elif not any(d.usable for d in mine):
        told = [d.reason for d in mine if d.reason]
        asked = any(probe.package == candidate.package for probe in _KNOWN)
        if told:
            reason = told[0]
        elif provider or asked or device != "cpu":
            reason = f"{provider or candidate.package} found no {device}"
    names = tuple(dict.fromkeys(d.provider for d in mine if d.usable)) if reason is None else ()
    return BackendRow(candidate.name, device, candidate.package, installed, names, reason is None, reason)


def _ask(probes: Sequence[Probe], ends: float) -> list[ProbeAnswer]:
    left = max(0.1, ends - time.monotonic())
    with ThreadPoolExecutor(max_workers=len(probes)) as pool:
        return list(pool.map(lambda probe: run_probe(probe.arguments, left), probes))


def _rows(probe: Probe, answer: ProbeAnswer) -> list[Device]:
    installed = None if probe.package == "-" else installed_version(probe.package)
    if answer.reason is not None:
        row = Device(
            probe.device, "", "", probe.provider, probe.package, installed, None, None, False, answer.reason
        )
        return [row]
    if not answer.findings and not answer.unproven:
        reason = "it answered, but found no device of its own here"
        return [
            Device(probe.device, "", "", probe.provider, probe.package, installed, None, None, False, reason)
        ]
    return [_row(probe, installed, finding) for finding in answer.findings]


def _row(probe: Probe, installed: str | None, finding: Finding) -> Device:
    return Device(
        device=cast(Literal["cpu", "gpu", "npu"], finding.device),
        name=finding.name,
        vendor=finding.vendor,
        provider=finding.provider,
        package=probe.package,
        version=installed,
        driver=finding.driver,
        memory_bytes=finding.memory_bytes,
        usable=finding.reason is None,
        reason=finding.reason,
    )


def _name_cpu(device: Device, processor: Processor) -> Device:
    if device.device != "cpu" or not device.usable:
        return device
    return replace(device, name=processor.name, memory_bytes=processor.memory_bytes)


def _unreached(adapters: Sequence[Adapter], devices: Sequence[Device]) -> list[Device]:
    """Adapters of a class of which nothing usable was found."""
    reached = {device.device for device in devices if device.usable}
    return [
        Device(a.device, a.name, a.vendor, "-", "-", None, a.driver, a.memory_bytes, False, _REACHES_NOTHING)
        for a in adapters
        if a.device not in reached
    ]


def _class_of(name: str) -> DeviceClass:
    """The class that a provider is known for, for a row that says why it gave no answer."""
    lowered = name.lower()
    if any(word in lowered for word in ("qnn", "npu", "coreml", "nnapi", "vitis", "openvino")):
        return "npu"
    return "cpu" if "xnnpack" in lowered else "gpu"


def _on_macos() -> bool:
    return platform.system() == "Darwin"
