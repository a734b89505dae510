"""edgesdk beside llama.cpp on the same weights, the same tokens, the same threads, in one run.

    python benchmarks/side_by_side.py BUNDLE [--rounds 5] [--threads 2] [--json FILE]

BUNDLE holds the variants to measure (`edgesdk convert smollm2-135m BUNDLE --recipe w8,w4b32`). The
first run makes an environment for llama-cpp-python in the cache folder (it compiles for about ten
minutes) and quantises the source with it. Every contender is a process that stays loaded; rounds go
round all of them, one at a time, so that a change of the machine's speed meets all alike. Figures are
medians; ratios are against the better of llama.cpp's types.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import click
from peer import peer_model, peer_python

from converters.checkpoints.default_model import fetch_default_model
from edgesdk.bundle.reader import open_bundle

HERE = Path(__file__).parent
KINDS = ("Q8_0", "Q4_0", "Q4_1")
FIGURES = ("prefill_tokens_per_s", "decode_tokens_per_s")
BACKENDS = {"litert": "litert", "onnx-resident": "onnxruntime"}


class Contender:
    """A loaded process that measures itself when it is sent a line."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.rounds: list[dict[str, float]] = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.ready = self._read()["ready"]

    def measure(self) -> dict[str, float]:
        """One round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.name} ended early with status {self.process.wait()}")
        return json.loads(line)

    def median(self, figure: str) -> float:
        """Median over the counted rounds."""
        return statistics.median(r[figure] for r in self.rounds)

    def spread(self, figure: str) -> tuple[float, float]:
        """Least and most."""
        values = [r[figure] for r in self.rounds]
        return min(values), max(values)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.option("--rounds", default=5, show_default=True, help="counted rounds, after one that is not")
@click.option("--threads", default=2, show_default=True)
@click.option("--prompt-tokens", default=512, show_default=True)
@click.option("--new-tokens", default=128, show_default=True)
@click.option("--json", "json_file", type=click.Path(), help="write every round to this file")
@click.option("--peer-python", "given_python", type=click.Path(), help="an interpreter with llama-cpp-python")
def main(
    bundle: str,
    rounds: int,
    threads: int,
    prompt_tokens: int,
    new_tokens: int,
    json_file: str | None,
    given_python: str | None,
) -> None:
    """Prints medians, spread and ratios of every contender."""
    python = Path(given_python) if given_python else peer_python()
    counts = [str(n) for n in (threads, prompt_tokens, new_tokens)]
    peer, ours = HERE / "workers" / "llamacpp_worker.py", HERE / "workers" / "edgesdk_worker.py"
    source = fetch_default_model("smollm2-135m")
    contenders = [
        Contender(
            f"llama.cpp {kind}", [str(python), str(peer), str(peer_model(python, kind, source)), *counts]
        )
        for kind in KINDS
    ]
    for variant in open_bundle(bundle).manifest.variants:
        backend = BACKENDS.get(variant.format)
        if backend is not None:
            command = [sys.executable, str(ours), bundle, backend, variant.name, *counts]
            contenders.append(Contender(f"edgesdk {variant.name}", command))
    for round_number in range(rounds + 1):
        for contender in contenders:
            figures = contender.measure()
            if round_number:
                contender.rounds.append(figures)
    peers = [c for c in contenders if c.name.startswith("llama.cpp")]
    best = {figure: max(c.median(figure) for c in peers) for figure in FIGURES}
    header = f"{'':24}{'prefill tokens/s':>28}{'ratio':>7}{'decode tokens/s':>28}{'ratio':>7}"
    click.echo(
        f"{prompt_tokens} prompt tokens, {new_tokens} new, {threads} threads, {rounds} rounds\n{header}"
    )
    for contender in contenders:
        line = f"{contender.name:24}"
        for figure in FIGURES:
            low, high = contender.spread(figure)
            middle = contender.median(figure)
            line += f"{f'{middle:.0f} ({low:.0f} to {high:.0f})':>28}{middle / best[figure]:>7.2f}"
        click.echo(line)
    if json_file:
        document = {c.name: {"version": c.ready, "rounds": c.rounds} for c in contenders}
        Path(json_file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
