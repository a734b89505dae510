"""Asks ONNX Runtime for devices: its own, those of one plugin library, or whether one provider works.

python -m edgesdk.devices.probes.ask_onnxruntime
python -m edgesdk.devices.probes.ask_onnxruntime --module onnxruntime_qnn
python -m edgesdk.devices.probes.ask_onnxruntime --library NAME PATH
python -m edgesdk.devices.probes.ask_onnxruntime --provider CUDAExecutionProvider
"""

from __future__ import annotations

import base64
import importlib
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from edgesdk.devices.probes.answer import Fact, write_answer

# A provider that is built into a wheel names no device, and its libraries may be missing.
PROVIDER_CLASSES: Mapping[str, str] = {
    "CUDAExecutionProvider": "gpu",
    "CoreMLExecutionProvider": "npu",
    "DmlExecutionProvider": "gpu",
    "JsExecutionProvider": "gpu",
    "MIGraphXExecutionProvider": "gpu",
    "NnapiExecutionProvider": "npu",
    "NvTensorRTRTXExecutionProvider": "gpu",
    "OpenVINOExecutionProvider": "cpu",
    "QNNExecutionProvider": "npu",
    "ROCMExecutionProvider": "gpu",
    "TensorrtExecutionProvider": "gpu",
    "VitisAIExecutionProvider": "npu",
    "WebGpuExecutionProvider": "gpu",
    "XnnpackExecutionProvider": "cpu",
}

_CPU = "CPUExecutionProvider"
_SIMULATOR = "Hexagon simulator: right results, meaningless speed"

# An ONNX model (opset 13) that adds a (1, 4) float tensor `a` to itself and calls it `b`.
_MODEL = base64.b64decode(
    "CAgSADo9Cg4KAWEKAWESAWIiA0FkZBIBZ1oTCgFhEg4KDAgBEggKAggBCgIIBGITCgFiEg4KDAgBEggKAggBCgIIBEIECgAQDQ=="
)


def ask_own() -> None:
    """Devices of the providers that are part of the wheel."""
    names = [name for name in onnxruntime.get_available_providers() if name in PROVIDER_CLASSES]
    listed = [_describe(device) for device in _ep_devices()]
    if not listed:  # before 1.23 there was no list
        listed = [{"device": "cpu", "provider": _CPU, "name": "CPU", "vendor": ""}]
    write_answer(listed, names)


def ask_library(name: str, path: str) -> None:
    """Devices that a plugin library brings.

    Args:
        name: to register it by.
        path: of the library.
    """
    write_answer(_register(name, path, ()))


def ask_module(module: str) -> None:
    """Devices of a plugin package, which says itself where its library is."""
    plugin = importlib.import_module(module)
    names = tuple(plugin.get_ep_names() if hasattr(plugin, "get_ep_names") else [plugin.get_ep_name()])
    found = _register(names[0], str(plugin.get_library_path()), names)
    simulator = getattr(plugin, "get_qnn_htp_path", None)
    if simulator is not None and platform.machine() in ("x86_64", "AMD64") and Path(simulator()).is_file():
        # Qualcomm's library for x86-64 offers the CPU as device and runs the NPU's instructions on it.
        found = [
            {**row, "device": "npu", "name": _SIMULATOR} if row["device"] == "cpu" else row for row in found
        ]
    write_answer(found)


def ask_provider(name: str) -> None:
    """Whether a provider of the wheel runs a node, with fallback to the CPU disabled."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(_MODEL, options, providers=[name])
    row: dict[str, Fact] = {"device": PROVIDER_CLASSES.get(name, "cpu"), "provider": name}
    if name not in session.get_providers():
        row["reason"] = f"onnxruntime falls back to {', '.join(session.get_providers())}"
    write_answer([row])


def _register(name: str, path: str, only: tuple[str, ...]) -> list[dict[str, Fact]]:
    """Devices of the providers in `only`; of every one that was not there before when it is empty."""
    before = {device.ep_name for device in _ep_devices()}
    onnxruntime.register_execution_provider_library(name, path)
    wanted = only or tuple({device.ep_name for device in _ep_devices()} - before)
    return [_describe(device) for device in _ep_devices() if device.ep_name in wanted]


def _ep_devices() -> list[onnxruntime.OrtEpDevice]:
    return list(onnxruntime.get_ep_devices()) if hasattr(onnxruntime, "get_ep_devices") else []


def _describe(found: onnxruntime.OrtEpDevice) -> dict[str, Fact]:
    hardware = found.device
    facts = {str(key): str(value) for key, value in dict(hardware.metadata).items()}
    about = {str(key): str(value) for key, value in dict(found.ep_metadata).items()}
    kind = str(hardware.type).rsplit(".", 1)[-1].lower()
    memory = re.match(r"(\d{1,12})\s*MB", facts.get("DxgiVideoMemory", ""))
    vendor = str(hardware.vendor) or f"0x{hardware.vendor_id:04x}"
    name = facts.get("Description") or f"{vendor} {kind} 0x{hardware.device_id:04x}"
    if kind == "cpu":
        name = "CPU"
    return {
        "device": kind,
        "provider": str(found.ep_name),
        "name": name,
        "vendor": vendor,
        "driver": about.get("driver_version") or about.get("version"),
        "memory_bytes": int(memory[1]) * 1_000_000 if memory else None,
    }


def main(arguments: list[str]) -> None:
    """Carries out one of the forms above."""
    match arguments:
        case []:
            ask_own()
        case ["--module", module]:
            ask_module(module)
        case ["--library", name, path]:
            ask_library(name, path)
        case ["--provider", name]:
            ask_provider(name)
        case _:
            sys.exit(f"unknown arguments: {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
