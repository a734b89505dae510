"""The QNN execution provider with its options: on the processor of this machine, or on the simulator.

The wheel for x86-64 Linux brings a simulator of the Hexagon processor: right results, meaningless speed.
"""

from __future__ import annotations

import platform
import sys
from importlib import import_module

from edgesdk.backends.onnxruntime_provider import Provider
from edgesdk.backends.qnn.socs import Soc, find_soc
from edgesdk.errors import MissingExtra

NAME = "QNNExecutionProvider"
PACKAGE = "onnxruntime-qnn"
_MODULE = "onnxruntime_qnn"
_SIMULATED = "sm8650"


def is_simulated() -> bool:
    """Whether the package computes on this machine's CPU as a Hexagon processor would."""
    return platform.machine().lower() in ("x86_64", "amd64") and sys.platform == "linux"


def qnn_provider(soc: Soc | None = None) -> Provider:
    """The provider, which takes a model as a whole or not at all.

    Args:
        soc: compile for it; None for the processor of this machine, or the one that is simulated.

    Raises:
        MissingExtra: the package is not installed.
    """
    try:
        module = import_module(_MODULE)
    except ImportError as error:
        raise MissingExtra(PACKAGE, "qnn") from error
    options = {"backend_path": str(module.get_qnn_htp_path())}
    if soc is None and is_simulated():
        soc = find_soc(_SIMULATED)
    if soc is not None:
        # Without them the compiler takes a processor that knows no float16, and fails at the very end.
        options |= {"soc_model": str(soc.model), "htp_arch": str(soc.arch)}
    return Provider(NAME, options, _MODULE, whole=True)
