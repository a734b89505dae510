"""Has LiteRT compile and run one addition on one kind of accelerator: `ask_litert cpu|gpu|npu`.

A plugin that is there says nothing about a driver that works, so a model is run. CPU is not allowed to
help, except that LiteRT's NPU path can return its own CPU result and call it accelerated (see
`Environment.create` in ai-edge-litert 2.3): an npu counts only with a vendor's dispatch library that loads.
"""

from __future__ import annotations

import base64
import ctypes
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ai_edge_litert
import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator, Options

from edgesdk.bundle.drafts import scratch_folder
from edgesdk.devices.probes.answer import Fact, write_answer

_LOG_BYTES = 1 << 16

# A LiteRT file with one ADD of a (1, 4) float tensor to itself, compressed by zlib.
_MODEL = zlib.decompress(
    base64.b64decode(
        "eNpdTzEOwjAQc6BIkRpVHTowMPIDeAMTI2MHWtGBAVp16gt5Bz8JvsioVRNZvpztS+IB3C7X0yfGWLE+EEfCO2BLJiEjQH1HGsa+7dQ3"
        "P1Bgz6pEgKezUN/m1MSdeGjGq3m+scoaWzZXtkx95EH1xHudMhvMyy0AaWfd82XGk4P0Vvr/LyG9FelknqW3WXmd9Cxt4Acgahdc"
    )
)


def main(device: str) -> None:
    """Answers for `cpu`, `gpu` or `npu`."""
    provider = {"cpu": "XNNPACK", "gpu": "LiteRT GPU", "npu": "LiteRT NPU"}[device]
    vendor = ""
    if device == "npu":
        libraries = _dispatch_libraries()
        loaded = [name for name, reason in libraries.items() if reason is None]
        if not loaded:
            write_answer([_row(device, provider, name, reason) for name, reason in libraries.items()])
            return
        vendor = loaded[0]
    log: list[str] = []
    reason = None
    with scratch_folder() as folder:
        path = folder / "add.tflite"
        path.write_bytes(_MODEL)
        try:
            with _caught(log):
                reason = _run(str(path), getattr(HardwareAccelerator, device.upper()))
        except (RuntimeError, ValueError) as error:
            reason = _telling_line([*str(error).splitlines(), *log])
    write_answer([_row(device, provider, vendor, reason)])


def _run(path: str, accelerator: HardwareAccelerator) -> str | None:
    """Adds; returns what is wrong with the result."""
    model = CompiledModel.from_file(path, options=Options(hardware_accelerators=accelerator))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(np.array([[1, 2, 3, 4]], np.float32))
    model.run_by_index(0, inputs, outputs)
    result = np.asarray(outputs[0].read(4, np.float32)).ravel()
    if not np.allclose(result, [2, 4, 6, 8], rtol=1e-3):
        return f"1+1, 2+2, 3+3, 4+4 came out as {result.tolist()}"
    return None if model.is_fully_accelerated() else "an addition does not run on it"


def _row(device: str, provider: str, vendor: str, reason: str | None) -> dict[str, Fact]:
    return {"device": device, "provider": provider, "vendor": vendor, "reason": reason}


def _dispatch_libraries() -> dict[str, str | None]:
    """For each vendor in the wheel, why its dispatch library cannot be loaded; None if it can."""
    found: dict[str, str | None] = {}
    folder = Path(ai_edge_litert.__file__).parent / "vendors"
    for vendor in sorted(path for path in folder.glob("*") if path.is_dir()):
        libraries = sorted(vendor.glob("dispatch/*LiteRtDispatch*"))
        if not libraries:
            found[vendor.name] = "the wheel compiles for it but has no dispatch library to run on it"
            continue
        try:
            ctypes.CDLL(str(libraries[0]))
            found[vendor.name] = None
        except OSError as error:
            found[vendor.name] = str(error)
    return found or {"": "the wheel has no vendor's dispatch library"}


@contextmanager
def _caught(lines: list[str]) -> Iterator[None]:
    """Collects what native code writes on standard error: LiteRT's exceptions do not say what failed."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines.extend(file.read(_LOG_BYTES).decode("utf-8", "replace").splitlines())


def _telling_line(lines: Sequence[str]) -> str:
    """The last error that says something after the place in LiteRT's source where it arose."""
    errors = [found[1] for line in lines if (found := re.match(r"(?:ERROR: \[[^]]*\]|\s*└)\s*(\w.*)", line))]
    told = [text for text in errors if not text.startswith("ERROR")]
    return told[-1] if told else "LiteRT refused without a message"


if __name__ == "__main__":
    main(sys.argv[1])
