"""Imports a package that only uses the CPU here: `ask_import MODULE PROVIDER`.

onnxruntime-genai also says which providers it was built with.
"""

from __future__ import annotations

import importlib
import sys

from edgesdk.devices.probes.answer import Fact, write_answer

_GENAI = {
    "is_cuda_available": ("gpu", "CUDAExecutionProvider"),
    "is_dml_available": ("gpu", "DmlExecutionProvider"),
    "is_webgpu_available": ("gpu", "WebGpuExecutionProvider"),
    "is_qnn_available": ("npu", "QNNExecutionProvider"),
    "is_openvino_available": ("npu", "OpenVINOExecutionProvider"),
}


def main(module: str, provider: str) -> None:
    """Answers with the CPU, and with what the package says of itself."""
    package = importlib.import_module(module)
    rows: list[dict[str, Fact]] = [{"device": "cpu", "provider": provider}]
    for question, (device, name) in _GENAI.items():
        if getattr(package, question, bool)():
            reason = f"{module} was built with it, but edgesdk asks it for the CPU only"
            rows.append({"device": device, "provider": name, "reason": reason})
    write_answer(rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
