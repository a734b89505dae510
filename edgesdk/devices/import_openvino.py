"""Imports OpenVINO without what it reports of itself.

Its Python package (2026.4) sends an event about the import to its maker, with an identifier that it keeps
under the home folder, unless the user has declined before. It does so by `openvino_telemetry`, whose absence
it allows for: while it is imported here, that package is not to be found, and stays so for its converter.
"""

from __future__ import annotations

import sys
from types import ModuleType

_REPORTS = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """The module `openvino`; an application that has imported it before came first.

    Raises:
        ImportError: it is not installed, or cannot be loaded here.
    """
    hidden = _REPORTS not in sys.modules
    if hidden:
        sys.modules[_REPORTS] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[_REPORTS]
    found: ModuleType = openvino
    return found
