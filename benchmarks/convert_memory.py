"""Memory, disk and time of a conversion, of a checkpoint of any size whose weights are random.

    python benchmarks/convert_memory.py --folder /tmp/checkpoint --recipe w8-round --no-prove

Without sizes it is Llama-3.2-1B with 49,152 words: 1.07 billion weights in bfloat16, 2.15 GB. The conversion
runs in a process of its own, whose memory is read from /proc every 20 ms: *anonymous* is what only swapping
could take away, *mapped* what the system can drop and read again. POSIX with /proc only.

With `--cgroup FOLDER` it runs inside a control group that exists, under its limit on memory:

    mkdir /sys/fs/cgroup/memory/eight && echo 8G > /sys/fs/cgroup/memory/eight/memory.limit_in_bytes

What llama.cpp takes for the same checkpoint is measured by benchmarks/convert_peer.py.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

TOKENIZER = Path(__file__).parents[1] / "tests" / "data" / "tiny" / "llama"
_READ_EVERY_S = 0.02


def make_checkpoint(folder: Path, sizes: dict[str, int]) -> Path:
    """Writes a Llama checkpoint of random bfloat16 weights with the tokenizer of a tiny one."""
    E, F, V = sizes["hidden"], sizes["ffn"], sizes["words"]
    kv = sizes["kv_heads"] * sizes["head"]
    shapes = {"model.embed_tokens.weight": (V, E), "model.norm.weight": (E,)}
    for layer in range(sizes["layers"]):
        at = f"model.layers.{layer}"
        parts = {
            "input_layernorm": (E,), "post_attention_layernorm": (E,), "self_attn.q_proj": (E, E),
            "self_attn.k_proj": (kv, E), "self_attn.v_proj": (kv, E), "self_attn.o_proj": (E, E),
            "mlp.gate_proj": (F, E), "mlp.up_proj": (F, E), "mlp.down_proj": (E, F),
        }  # fmt: skip
        shapes.update({f"{at}.{part}.weight": shape for part, shape in parts.items()})
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": E, "intermediate_size": F, "vocab_size": V,
        "num_hidden_layers": sizes["layers"], "num_attention_heads": E // sizes["head"],
        "num_key_value_heads": sizes["kv_heads"], "head_dim": sizes["head"], "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_tensors(folder / "model.safetensors", shapes)
    return folder


def _write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Random numbers with the spread of trained ones; the same few million again and again, each turned."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    noise = np.random.default_rng(0).standard_normal(1 << 22, np.float32) * np.float32(0.02)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for place, shape in enumerate(shapes.values()):
            values = np.roll(noise, 7919 * place)
            values = 1 + values if len(shape) == 1 else values
            left, bits = int(np.prod(shape)), (values.view(np.uint32) >> 16).astype("<u2")
            while left:
                file.write(bits[:left].data)
                left -= min(left, len(bits))


def measure(command: list[str], cgroup: Path | None = None) -> dict[str, float]:
    """Runs a command; MB at most of each kind of memory, seconds of processor and of the clock.

    Args:
        command: what to run.
        cgroup: folder of the control group that it joins.
    """
    most = {"RssAnon": 0, "RssFile": 0, "VmRSS": 0}
    if cgroup is not None:  # whoever is a member hands that on
        (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        status, seconds = Path(f"/proc/{child.pid}/status"), 0.0
        while child.poll() is None:
            try:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
                times = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            except (OSError, ProcessLookupError):
                break
            for kind in most.keys() & lines.keys():
                most[kind] = max(most[kind], int(lines[kind].split()[0]))
            seconds = (int(times[11]) + int(times[12])) / 100
            time.sleep(_READ_EVERY_S)
        said = child.stderr.read() if child.stderr else ""
    if child.returncode:
        raise click.ClickException(said.strip().splitlines()[-1] if said.strip() else "the conversion failed")
    return {
        "anonymous_mb": most["RssAnon"] / 1024,
        "mapped_mb": most["RssFile"] / 1024,
        "resident_mb": most["VmRSS"] / 1024,
        "processor_s": seconds,
        "clock_s": time.monotonic() - began,
    }


@click.command(help="Memory, disk and time of a conversion of a random checkpoint.")
@click.option("--folder", type=click.Path(path_type=Path), help="Checkpoint; made where it is missing.")
@click.option("--source", help="Another source, in place of a random checkpoint.")
@click.option("--layers", default=16, show_default=True)
@click.option("--hidden", default=2048, show_default=True)
@click.option("--ffn", default=8192, show_default=True)
@click.option("--words", default=49152, show_default=True)
@click.option("--kv-heads", default=8, show_default=True)
@click.option("--head", default=64, show_default=True, help="Size of a head.")
@click.option("--target", default="litert", show_default=True)
@click.option("--recipe", default="w8-round", show_default=True)
@click.option("--prove/--no-prove", default=False, show_default=True)
@click.option("--cgroup", type=click.Path(path_type=Path, exists=True), help="Control group to run in.")
@click.option("--json", "as_json", is_flag=True)
def main(
    folder: Path | None,
    source: str | None,
    target: str,
    recipe: str,
    prove: bool,
    cgroup: Path | None,
    as_json: bool,
    **sizes: int,
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if source is None:
            checkpoint = folder or Path(scratch) / "checkpoint"
            if not checkpoint.exists():
                make_checkpoint(checkpoint, sizes)
            source = str(checkpoint)
        out = Path(scratch) / "bundle"
        command = [sys.executable, "-m", "edgesdk", "convert", source, str(out), "--target", target]
        command += ["--recipe", recipe, "--allow-parity-miss" if prove else "--no-prove"]
        found = measure(command, cgroup)
        found["bundle_mb"] = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
    if as_json:
        click.echo(json.dumps(found))
        return
    for what, number in found.items():
        click.echo(f"{what:14} {number:10.1f}")


if __name__ == "__main__":
    main()
