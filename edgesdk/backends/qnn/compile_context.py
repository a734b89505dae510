"""Compiles one ONNX step model for a Hexagon processor: ONNX Runtime's EPContext format.

The result is a small ONNX file with one node and, beside it, the binary that the processor loads
(onnxruntime.ai, "EP Context Design"). Any x86-64 machine compiles for any processor.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgesdk.backends.native_log import caught_native_log
from edgesdk.backends.onnxruntime_provider import add_provider
from edgesdk.backends.onnxruntime_session import onnxruntime_errors
from edgesdk.backends.onnxruntime_telemetry import stop_telemetry
from edgesdk.backends.qnn.provider import PACKAGE, is_simulated, qnn_provider
from edgesdk.backends.qnn.socs import Soc
from edgesdk.errors import DeviceError, MissingExtra

_LOG_ERRORS_ONLY = 3


def compiler_name() -> str:
    """Package and version that compile, for the manifest.

    Raises:
        MissingExtra: the package is not installed.
    """
    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError as error:
        raise MissingExtra(PACKAGE, "qnn") from error


def compile_context(model: Path, out: Path, soc: Soc) -> None:
    """Compiles a model.

    Args:
        model: the ONNX file, its data beside it.
        out: file to write; the binary goes beside it, named after it.
        soc: what to compile for.

    Raises:
        DeviceError: the compiler refused it.
        MissingExtra: the package is not installed.
    """
    provider = qnn_provider(soc)
    import onnxruntime

    stop_telemetry(onnxruntime)
    if not hasattr(onnxruntime, "ModelCompiler"):
        raise DeviceError(f"onnxruntime {onnxruntime.__version__} cannot compile; install 1.24 or later")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    with (
        caught_native_log(stdout=is_simulated()),
        onnxruntime_errors(f"cannot compile {model.name} for {soc.name}"),
    ):
        add_provider(options, provider)
        onnxruntime.ModelCompiler(options, str(model)).compile_to_file(str(out))
    if not out.is_file():
        raise DeviceError(f"the compiler took no part of {model.name} for {soc.name}")
