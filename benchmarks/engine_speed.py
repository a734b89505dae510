"""What the engine's parts are worth: batching, chunked prefill, prefix reuse, cancellation.

    python benchmarks/engine_speed.py BUNDLE [--recipe w8] [--json FILE] [--plot FILE.svg]

BUNDLE needs a context of 4096 tokens (`edgesdk convert smollm2-135m BUNDLE --context 4096`). Figures:
time between tokens of three streams while a 2,000-token prompt arrives, for the paper's four policies
(Sarathi-Serve, section 5.4); what chunks cost the prompt itself; tokens per second of one and of eight
streams; time to first token of a prompt that comes again with 20 new tokens; and how long after a
cancel its cells are free, in steps.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.evaluation.bench_streams import StreamsReport, measure_streams
from edgesdk.kv.step_runner import StepEntry, StepRunner
from edgesdk.model import Model

PROMPT = 2000
POLICIES = {
    "chunked and hybrid": (True, True),
    "chunked only": (True, False),
    "hybrid only": (False, True),
    "neither": (False, False),
}


def policies(model: Model, rounds: int) -> dict[str, StreamsReport]:
    """Three streams and a long prompt, under each policy; of several rounds the one with the median p99."""
    budget = None
    found: dict[str, list[StreamsReport]] = {name: [] for name in POLICIES}
    for _ in range(rounds):
        for name, (chunked, hybrid) in POLICIES.items():
            report = measure_streams(
                model, 3, inject_prompt=PROMPT, token_budget=budget, chunked=chunked, hybrid=hybrid
            )
            budget = report.token_budget
            found[name].append(report)
    return {name: sorted(r, key=lambda x: x.tbt_p99_ms)[len(r) // 2] for name, r in found.items()}


def prefill_ms(model: Model, piece: int) -> float:
    """A prompt alone, in pieces of so many tokens."""
    spec = model.decoder
    runner = StepRunner(model.backend.backend, spec, model.context)
    tokens = (37 * np.arange(PROMPT, dtype=np.int64) % spec.vocab_size).astype(np.int32)
    cells = runner.new_list()
    started = time.perf_counter()
    for first in range(0, PROMPT, piece):
        runner.run([StepEntry(cells, tokens[first : first + piece])])
    took = time.perf_counter() - started
    cells.close()
    return took * 1e3


def reuse(model: Model) -> tuple[float, float]:
    """Time to first token of 1,500 tokens, and of the same with 20 more, in ms."""
    vocabulary = model.bundle.manifest.decoder.vocab_size
    prompt = [(37 * i + 11) % vocabulary for i in range(1500)]
    with edgesdk.Engine(model, token_budget=32) as engine:
        first = engine.submit(prompt, max_tokens=1)
        first.result()
        again = engine.submit([*prompt, *range(100, 120)], max_tokens=1)
        again.result()
        if again.metrics.cached_tokens != len(prompt):
            raise click.ClickException(f"{again.metrics.cached_tokens} tokens were cached")
        return first.metrics.ttft_ms or 0.0, again.metrics.ttft_ms or 0.0


def cancellation(model: Model, *, prefill: bool, rounds: int = 20) -> dict[str, float]:
    """From a cancel to the release of all cells, in ms and in steps of that load."""
    vocabulary = model.bundle.manifest.decoder.vocab_size
    took, steps = [], []
    with edgesdk.Engine(model, token_budget=32, prefix_cache_mb=0) as engine:
        for index in range(rounds):
            # Another length each time: cancels must not always meet the same moment of a step.
            prompt = [(37 * i + 13 * index) % vocabulary for i in range(PROMPT if prefill else 40)]
            before = engine.metrics
            request = engine.submit(prompt, max_tokens=500, ignore_eos=True)
            if prefill:
                while engine.metrics.steps < before.steps + 3:
                    time.sleep(0.001)
            else:
                while request.metrics.new_tokens < 5:
                    time.sleep(0.001)
            time.sleep(0.003 * index)
            now, started = engine.metrics, time.perf_counter()
            request.cancel()
            while engine.metrics.cells_used:
                time.sleep(0.0002)
            took.append((time.perf_counter() - started) * 1e3)
            done = now.steps - before.steps
            steps.append(took[-1] / ((now.model_s - before.model_s) / done * 1e3))
    return {
        "median_ms": statistics.median(took),
        "median_steps": statistics.median(steps),
        "max_steps": max(steps),
    }


def draw(found: dict[str, StreamsReport], path: Path) -> None:
    """Time between tokens over time, in pieces and whole."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "edgesdk"
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for name, marker in (("neither", "x"), ("chunked and hybrid", ".")):
        gaps = np.array(found[name].gaps)
        axes.plot(gaps[:, 0] / 1e3, gaps[:, 1], marker, markersize=4, label=name)
    axes.set_yscale("log")
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_xlabel(f"seconds after a prompt of {PROMPT} tokens arrives")
    axes.set_ylabel("time between tokens, ms")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.option("--recipe", default="w8", show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), help="needs matplotlib")
def main(bundle: str, recipe: str, rounds: int, path: Path | None, plot: Path | None) -> None:
    """Prints every figure."""
    figures: dict[str, object] = {}

    def say(name: str, value: object) -> None:
        figures[name] = value
        print(f"{name}: {value}", flush=True)

    with edgesdk.load(bundle, recipe=recipe, backend="litert", strict=True) as model:
        found = policies(model, rounds)
        for name, report in found.items():
            fields = dataclasses.asdict(report)
            say(name, {k: v for k, v in fields.items() if k != "gaps"})
        tau = found["chunked and hybrid"].token_budget
        pieces = [(prefill_ms(model, tau), prefill_ms(model, 128)) for _ in range(rounds)]
        say(
            f"prefill of {PROMPT} in pieces of {tau} over pieces of 128",
            statistics.median(a / b for a, b in pieces),
        )
        many = []
        for _ in range(rounds):
            one = measure_streams(model, 1, token_budget=tau).aggregate_tokens_per_s
            eight = measure_streams(model, 8, token_budget=tau).aggregate_tokens_per_s
            many.append((eight / one, one, eight))
        say("eight streams over one, tokens/s of one, of eight", sorted(many)[len(many) // 2])
        first, again = reuse(model)
        say("first token ms, and with 1,500 of 1,520 tokens cached", (first, again))
        say("cancel in the prompt", cancellation(model, prefill=True))
        say("cancel in the answer", cancellation(model, prefill=False))
    if path is not None:
        path.write_text(json.dumps(figures, indent=2))
    if plot is not None:
        draw(found, plot)


if __name__ == "__main__":
    main()
