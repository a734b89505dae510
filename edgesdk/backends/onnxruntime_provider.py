"""Execution providers of ONNX Runtime: how one is reached, and how much of a model runs on it.

A provider comes inside the `onnxruntime` package, or as a plugin of its own. Sessions with a provider never
fall back: what it refuses is an error, and what ONNX Runtime itself leaves on the CPU is counted. It knows no
model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from edgesdk.errors import DeviceError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtEpDevice, SessionOptions


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: as ONNX Runtime calls it.
        options: its own, as text.
        plugin: module of the package that brings it; None for one inside `onnxruntime`.
        whole: refuse a model of which it leaves a node to the CPU.
        copies: it has memory of its own, to which inputs are copied when they are bound.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    plugin: str | None = None
    whole: bool = False
    copies: bool = False


def add_provider(options: SessionOptions, provider: Provider) -> None:
    """Has sessions with these options use a provider, and no other but the CPU for what it leaves.

    Raises:
        DeviceError: it is not there, or has no device here.
    """
    import onnxruntime

    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider.whole:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider.plugin is not None:
        device = _plugin_device(provider.plugin, provider.name)
        options.add_provider_for_devices([device], dict(provider.options))
        return
    there = onnxruntime.get_available_providers()
    if provider.name not in there:
        raise DeviceError(
            f"onnxruntime {onnxruntime.__version__} has no {provider.name}; it has {', '.join(there)}"
        )
    options.add_provider(provider.name, dict(provider.options))


def assigned_share(session: InferenceSession, provider: Provider) -> float | None:
    """Share of a session's nodes on its provider, by ONNX Runtime's own record of where each went.

    Returns:
        0 to 1; None where the record does not name the provider, as with some that are built in.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):  # onnxruntime before 1.24
        return None
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    if provider.name not in counts:
        return None
    return counts[provider.name] / sum(counts.values())


def profiled_share(path: Path, provider: Provider) -> float | None:
    """Share of the nodes that ran on a provider, by a profile that ONNX Runtime wrote.

    Args:
        path: the profile.
        provider: in question.

    Returns:
        0 to 1; None where the profile names no node.
    """
    ran: dict[str, str] = {}
    for event in json.loads(path.read_text(encoding="utf-8")):
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and arguments.get("provider"):
            ran[event["name"]] = arguments["provider"]
    return sum(name == provider.name for name in ran.values()) / len(ran) if ran else None


@cache
def _register(plugin: str) -> None:
    import onnxruntime

    try:
        module = import_module(plugin)
        onnxruntime.register_execution_provider_library(module.get_ep_name(), module.get_library_path())
    except ImportError as error:
        raise DeviceError(f"{plugin} cannot be imported: {error}") from error
    except AttributeError as error:
        raise DeviceError(f"{plugin} is no plugin of onnxruntime: {error}") from error


def _plugin_device(plugin: str, name: str) -> OrtEpDevice:
    import onnxruntime

    _register(plugin)
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise DeviceError(f"{name} finds no device on this machine")
    return devices[0]
