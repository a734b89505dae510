"""Has LiteRT pack a model's weights into a file: `python -m edgesdk.backends.litert.pack_weights MODEL FILE`.

A process of its own, because LiteRT ends the process that it runs in when the file cannot be written.
"""

from __future__ import annotations

import sys

from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, HardwareAccelerator, Options

from edgesdk.devices.cpu import count_threads


def pack_weights(model: str, packed: str) -> None:
    """Compiles a model for the CPU, which writes the file.

    Args:
        model: the LiteRT file.
        packed: file to write.
    """
    cpu = CpuOptions(num_threads=count_threads(None), xnnpack_weight_cache_path=packed)
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
    CompiledModel.from_file(model, options=options).close()


if __name__ == "__main__":
    pack_weights(*sys.argv[1:])
