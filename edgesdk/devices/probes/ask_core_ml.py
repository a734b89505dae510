"""Asks Core ML for its compute devices; macOS only."""

from __future__ import annotations

from coremltools.models.compute_device import MLComputeDevice

from edgesdk.devices.probes.answer import Fact, write_answer

_CLASSES = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "npu"}


def main() -> None:
    """Answers with one row for each device that Core ML has."""
    rows: list[dict[str, Fact]] = []
    for device in MLComputeDevice.get_all_compute_devices():
        kind = type(device).__name__
        rows.append(
            {
                "device": _CLASSES.get(kind, "cpu"),
                "provider": "CoreML",
                "vendor": "Apple",
                "name": kind.removeprefix("ML").removesuffix("ComputeDevice"),
            }
        )
    write_answer(rows)


if __name__ == "__main__":
    main()
