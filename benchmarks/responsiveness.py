"""How long the rest of a program waits while a model is loaded, reads a prompt, and answers.

    python benchmarks/responsiveness.py BUNDLE [--threads N] [--repeat 3] [--tokens 100] [--json]

The model works in a thread. Beside it a timer is to tick every 15 ms: a thread that sleeps, an asyncio loop,
and a Tk window where there is one, each in runs of its own. A gap is what lies between two ticks less the
15 ms that are wanted. Every phase (load, a prompt of 1,500 tokens or what fits, decode) gives the median, the
99th percentile and the worst gap in milliseconds; of several runs the one with the smallest worst gap counts,
because other programs can only make it longer. `idle` is the same with nothing beside it. The worst gap of a
phase counts only what lies within it.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

import edgesdk

PERIOD_S = 0.015
PROMPT_TOKENS = 1500
BACKENDS = ("litert", "onnxruntime", "litert-interpreter")
Until = Callable[[], bool]
Phases = list[tuple[str, float]]


def tick_thread(until: Until) -> list[float]:
    """Moments of ticks in a thread."""
    moments = []

    def work() -> None:
        while not until():
            moments.append(time.perf_counter())
            time.sleep(PERIOD_S)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return moments


def tick_asyncio(until: Until) -> list[float]:
    """Moments of ticks in an event loop."""
    moments = []

    async def work() -> None:
        while not until():
            moments.append(time.perf_counter())
            await asyncio.sleep(PERIOD_S)

    asyncio.run(work())
    return moments


def tick_tk(until: Until) -> list[float]:
    """Moments of ticks in a window; raises ImportError or RuntimeError where there can be none."""
    import tkinter

    try:
        window = tkinter.Tk()
    except tkinter.TclError as error:
        raise RuntimeError(str(error)) from error
    moments = []

    def tick() -> None:
        if until():
            window.destroy()
            return
        moments.append(time.perf_counter())
        window.after(int(PERIOD_S * 1e3), tick)

    tick()
    window.mainloop()
    return moments


TIMERS = {"thread": tick_thread, "asyncio": tick_asyncio, "tk": tick_tk}


def work(
    bundle: Path, backend: str, threads: int | None, tokens: int, phases: list[tuple[str, float]]
) -> None:
    """Loads, reads a prompt and answers; notes when each phase begins."""
    phases.append(("load", time.perf_counter()))
    with edgesdk.load(bundle, backend=backend, threads=threads) as model:
        sequence = model.new_sequence()
        count = min(PROMPT_TOKENS, sequence.context - tokens)
        prompt = (37 * np.arange(count) % model.decoder.vocab_size).astype(np.int32)
        phases.append(("prompt", time.perf_counter()))
        newest = np.array([sequence.extend(prompt).argmax()], np.int32)
        phases.append(("decode", time.perf_counter()))
        for _ in range(tokens):
            newest[0] = sequence.extend(newest).argmax()
        phases.append(("end", time.perf_counter()))
        sequence.close()


def gaps(moments: list[float], begin: float, end: float) -> dict[str, float]:
    """Median, 99th percentile and worst of what the ticks of a phase came too late, in ms."""
    at = np.array([begin, *(moment for moment in moments if begin < moment < end), end])
    late = np.maximum(np.diff(at) - PERIOD_S, 0) * 1e3
    return {
        "median_ms": round(float(np.median(late)), 1),
        "p99_ms": round(float(np.percentile(late, 99)), 1),
        "worst_ms": round(float(late.max()), 1),
        "took_ms": round((end - begin) * 1e3),
    }


def measure(timer: str, act: Callable[[Phases], None]) -> dict[str, dict[str, float]]:
    """Figures of every phase of one run."""
    phases: Phases = []
    failed: list[Exception] = []

    def beside() -> None:
        try:
            act(phases)
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            failed.append(error)

    thread = threading.Thread(target=beside)
    thread.start()
    moments = TIMERS[timer](lambda: not thread.is_alive())
    thread.join()
    if failed:
        raise failed[0]
    return {
        name: gaps(moments, begin, phases[index + 1][1]) for index, (name, begin) in enumerate(phases[:-1])
    }


def idle(phases: Phases) -> None:
    """Nothing, for a second."""
    phases.append(("idle", time.perf_counter()))
    time.sleep(1)
    phases.append(("end", time.perf_counter()))


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--threads", type=int, help="CPU threads of the model; default: every core.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--tokens", default=100, show_default=True, help="Tokens to decode.")
@click.option("--backend", "backends", multiple=True, default=BACKENDS, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    bundle: Path, threads: int | None, repeat: int, tokens: int, backends: tuple[str, ...], as_json: bool
) -> None:
    """Prints a row for each backend, timer and phase."""
    rows = []
    acts: dict[str, Callable[[Phases], None]] = {"-": idle}
    for name in backends:
        acts[name] = partial(work, bundle, name, threads, tokens)
    for backend, act in acts.items():
        for timer in TIMERS:
            best: dict[str, dict[str, float]] = {}
            try:
                for _ in range(repeat):
                    for phase, found in measure(timer, act).items():
                        if phase not in best or found["worst_ms"] < best[phase]["worst_ms"]:
                            best[phase] = found
            except (ImportError, RuntimeError, edgesdk.EdgeError) as error:
                click.echo(f"{backend} with {timer}: left out: {str(error).splitlines()[0]}", err=True)
                continue
            for phase, found in best.items():
                rows.append({"backend": backend, "timer": timer, "phase": phase, **found})
                if not as_json:
                    figures = "  ".join(f"{key} {value:g}" for key, value in found.items())
                    click.echo(f"{backend:20s} {timer:8s} {phase:7s} {figures}")
    if as_json:
        click.echo(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
