"""Whether this processor survives CompiledModel, which loads LiteRT's library for GPUs whatever it runs on.

That library of LiteRT 2.3 ends the process while it is loaded where instructions are missing that it was
compiled with: on x86-64 before AVX (2011), on Arm before half precision and dot products (Cortex-A53 and A72
among them). The classic interpreter does not load it and runs there. It knows nothing of GPUs.
"""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

from edgesdk.devices.cpu import lacking_flags

_NAME = "libLiteRtWebGpuAccelerator.so"
# As Linux calls what the library checks; `lrcpc` is left out, it came with the newer of these.
_FLAGS = {
    "x86_64": ("ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "aes", "pclmulqdq", "avx"),
    "aarch64": ("aes", "sha2", "crc32", "atomics", "asimdrdm", "fphp", "asimdhp", "asimddp"),
}


def refusal(root: Path = Path("/"), package: Path | None = None) -> str | None:
    """Why CompiledModel would end the process here; None if it does not, or the system hides its processor.

    Args:
        root: where proc is mounted; another folder in tests.
        package: LiteRT's folder; where it is installed if not given.
    """
    package = _installed() if package is None else package
    if package is None or not (package / _NAME).exists():
        return None
    lacking = lacking_flags(_FLAGS.get(platform.machine(), ()), root)
    if not lacking:
        return None
    return (
        f"this processor has no {', '.join(lacking)}, without which {_NAME} ends the process; "
        "use the backend litert-interpreter, or delete that file"
    )


def _installed() -> Path | None:
    found = find_spec("ai_edge_litert")
    return None if found is None or found.origin is None else Path(found.origin).parent
