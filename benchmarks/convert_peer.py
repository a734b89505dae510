"""Memory and time that llama.cpp takes to convert a checkpoint: to bfloat16 by its converter, then to Q8_0.

    python benchmarks/convert_peer.py llama.cpp CHECKPOINT --python peer/bin/python

The folder `llama.cpp` and PYTHON are as for benchmarks/gguf_peer.py; the quantiser is that of
llama-cpp-python, in its own environment. Each is a process of its own, measured as
benchmarks/convert_memory.py measures ours.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from convert_memory import measure
from gguf_peer import converter
from peer import WORKERS, peer_python


@click.command(help="Memory and time of llama.cpp's converter and quantiser.")
@click.argument("llama", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--python", default=sys.executable, help="Interpreter with torch and transformers.")
@click.option("--kind", default="Q8_0", show_default=True, help="One of llama.cpp's types.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Where the quantised file goes. Default: nowhere."
)
def main(llama: Path, checkpoint: Path, python: str, kind: str, keep: Path | None) -> None:
    quantiser = str(peer_python())
    with tempfile.TemporaryDirectory() as scratch:
        whole, small = Path(scratch) / "bf16.gguf", keep or Path(scratch) / "small.gguf"
        commands = {
            "to bfloat16": converter(llama.resolve(), python, checkpoint, whole, "bf16"),
            f"to {kind}": [
                *(quantiser, str(WORKERS / "llamacpp_worker.py"), "quantise", str(whole), str(small), kind)
            ],
        }
        for what, command in commands.items():
            click.echo(what)
            for name, number in measure(command).items():
                click.echo(f"{name:14} {number:10.1f}")
        click.echo(f"file_mb        {small.stat().st_size / 1e6:10.1f}")


if __name__ == "__main__":
    main()
