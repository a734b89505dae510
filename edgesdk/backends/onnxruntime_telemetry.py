"""Keeps ONNX Runtime from reporting to its maker.

Official wheels of 1.29 and later do so unless `ORT_DISABLE_TELEMETRY=1` stands in the environment when the
library is loaded; `import edgesdk` sets that where it is not set. An application that has loaded the
library before gets what can still be had: no further events. The first one, about the process, and the
files beside it are then beyond reach.
"""

from __future__ import annotations

import os
from types import ModuleType

VARIABLE = "ORT_DISABLE_TELEMETRY"
"""`0` leaves it on: the user's own choice."""


def stop_telemetry(module: ModuleType) -> None:
    """Asks a loaded library for no more events, unless the user wants them.

    Args:
        module: `onnxruntime` or `onnxruntime_genai`, of any version.
    """
    stop = getattr(module, "disable_telemetry_events", None)
    if stop is not None and os.environ.get(VARIABLE) != "0":
        stop()
