"""How fast a bundle embeds, against transformers on torch, in one run.

    python benchmarks/embedding_speed.py BUNDLE MODEL [--passages 1000] [--threads 2] [--peer PYTHON]

MODEL is the checkpoint that BUNDLE was made from, a directory or a GGUF file. Passages are pieces of Python's
own language topics, of 20 to 200 words. Both sides embed the same piece of them in turn, the mean of the last
hidden states, so that what else the machine does meets both. Where it is busy, compare processor time.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import statistics
import subprocess
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from peer import WORKERS, make_environment

import edgesdk

PACKAGES = ("torch", "transformers", "gguf", "safetensors")
_ROUNDS = 5
_SEED = 7


def passages(count: int) -> list[str]:
    """Pieces of 20 to 200 words."""
    words = re.sub(r"\s+", " ", " ".join(pydoc_data.topics.topics.values())).split(" ")
    random = np.random.default_rng(_SEED)
    found, at = [], 0
    while len(found) < count:
        length = int(random.integers(20, 200))
        found.append(" ".join(words[at : at + length]))
        at = (at + length) % (len(words) - 200)
    return found


class Peer:
    """The other side, as a process."""

    def __init__(self, python: Path, model: Path, threads: int, dtype: str) -> None:
        """Starts it, and waits until it is ready."""
        command = [python, WORKERS / "embed_worker.py", model.resolve(), str(threads), dtype]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise click.ClickException("the peer does not start; run workers/embed_worker.py to see why")

    def embed(self, texts: list[str]) -> tuple[list[float], NDArray[np.float32]]:
        """Wall and processor seconds, and vectors."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["seconds"], np.array(answer["vectors"], np.float32)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option("--passages", "count", default=1000, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--peer", type=click.Path(path_type=Path), help="Its Python; installed if not given.")
@click.option("--dtype", default="float32", show_default=True, help="Of the peer.")
@click.option("--variant", help="Of the bundle.")
def main(
    bundle: Path, model: Path, count: int, threads: int, peer: Path | None, dtype: str, variant: str | None
) -> None:
    """Prints passages a second, by wall and by processor time, and how alike the vectors are."""
    other = Peer(peer or make_environment("transformers", PACKAGES), model, threads, dtype)
    texts = passages(count)
    size = -(-count // _ROUNDS)
    loading = {"variant": variant} if variant else {}
    ratios: list[list[float]] = []
    likeness: list[float] = []
    totals = np.zeros((2, 2))
    with edgesdk.load(bundle, threads=threads, strict=True, **loading) as opened:
        tokens = sum(map(len, opened.embedding_tokens(texts)))
        opened.embed(texts[:4])
        other.embed(texts[:4])
        for first in range(0, count, size):
            part = texts[first : first + size]
            wall, cpu = time.perf_counter(), time.process_time()
            ours = opened.embed(part, pooling="mean")
            mine = [time.perf_counter() - wall, time.process_time() - cpu]
            theirs, vectors = other.embed(part)
            totals += [mine, theirs]
            ratios.append([b / a for a, b in zip(mine, theirs, strict=True)])
            likeness += (ours * vectors).sum(axis=1).tolist()
        variant = opened.receipt.variant
    click.echo(f"{count} passages, {tokens} tokens, {threads} threads; {variant} against {dtype} on torch")
    for name, (wall, cpu) in zip(("edgesdk", "transformers"), totals, strict=True):
        click.echo(
            f"{name:13} {count / wall:7.1f} passages/s, {cpu * 1e3 / count:7.1f} ms of processor time each"
        )
    wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
    click.echo(f"median of {len(ratios)} rounds: {wall:.2f}x by wall time, {cpu:.2f}x by processor time")
    click.echo(f"cosine of both vectors: mean {np.mean(likeness):.5f}, least {min(likeness):.5f}")


if __name__ == "__main__":
    main()
