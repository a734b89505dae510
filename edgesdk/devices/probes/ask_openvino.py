"""Asks OpenVINO for the devices that its plugins reach: Intel's GPUs and NPUs by name, and the CPU."""

from __future__ import annotations

from edgesdk.devices.import_openvino import import_openvino
from edgesdk.devices.probes.answer import Fact, write_answer

_CLASSES = {"CPU": "cpu", "GPU": "gpu", "NPU": "npu"}


def main() -> None:
    """Answers with a row for each device."""
    openvino = import_openvino()
    core = openvino.Core()
    rows: list[dict[str, Fact]] = []
    for name in core.available_devices:
        kind = _CLASSES.get(name.partition(".")[0])
        if kind is not None:
            full = str(core.get_property(name, "FULL_DEVICE_NAME"))
            vendor = "" if kind == "cpu" else "Intel"
            rows.append({"device": kind, "provider": f"OpenVINO {name}", "name": full, "vendor": vendor})
    write_answer(rows)


if __name__ == "__main__":
    main()
