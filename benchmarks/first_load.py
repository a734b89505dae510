"""What the first load of a bundle costs beside the next one: seconds and memory to the first token of 32.

    python benchmarks/first_load.py BUNDLE [--backend litert] [--threads 2]

Each load is a process of its own. The first finds an empty cache folder, so libraries pack weights again; the
second finds what the first has left. Libraries are imported before the clock starts, files lie in the page
cache. Memory is the peak of the process, mapped files included, without and with 512 tokens of prompt;
`process_s` is the whole of it, which ends once packed weights are written. Linux only (/proc).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

import click

_LOAD = """
import json, sys, time
from importlib import import_module
import numpy as np
import edgesdk
import_module({"litert": "ai_edge_litert.compiled_model", "onnxruntime": "onnxruntime"}[sys.argv[2]])
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
began, before = time.perf_counter(), peak()
model = edgesdk.load(sys.argv[1], backend=sys.argv[2], threads=int(sys.argv[3]))
sequence = model.new_sequence()
loaded = time.perf_counter() - began
sequence.extend(np.arange(5, 37, dtype=np.int32)).argmax()
first, small = time.perf_counter() - began, peak()
sequence.truncate(0)
sequence.extend(np.arange(5, 517, dtype=np.int32) % 200).argmax()
print(json.dumps({"load_s": loaded, "first_token_s": first, "peak_mib": small, "peak_512_mib": peak(),
                  "imports_mib": before}))
"""


@click.command(help="The first load of a bundle beside the next ones.")
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.option("--backend", default="litert", show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(bundle: str, backend: str, threads: int) -> None:
    with open(os.devnull, "w") as nowhere, tempfile.TemporaryDirectory() as cache:
        for what in ("first", "second", "third"):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", _LOAD, bundle, backend, str(threads)],
                env={**os.environ, "EDGESDK_CACHE": cache},
                stdout=subprocess.PIPE,
                stderr=nowhere,
                check=True,
            )
            figures = json.loads(done.stdout.splitlines()[-1])
            figures["process_s"] = time.perf_counter() - began
            click.echo(f"{what:6} " + "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
