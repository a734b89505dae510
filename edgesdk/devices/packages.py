"""Which versions of packages are installed. It imports none of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

from edgesdk.version import package_version

# Other distributions that bring the module `onnxruntime`.
_ONNXRUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-webgpu",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
)


def installed_version(package: str) -> str | None:
    """Version of a distribution; for onnxruntime, of whichever brings the module; None without one."""
    for name in _ONNXRUNTIMES if package == "onnxruntime" else (package,):
        try:
            return package_version(name)
        except PackageNotFoundError:
            continue
    return None
