"""Whether threads that share one model get what each gets alone: greedy, every token.

    python benchmarks/thread_identity.py BUNDLE [--recipe f32] [--threads 8] [--prompts 20] [--tokens 24]

Every thread asks all of the prompts, each in an order of its own, so that prompts and answers of all lengths
meet. On float32 weights every answer must be the one that the model gives alone; exits 1 where one is not.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

import edgesdk

BACKENDS = ("litert", "onnxruntime")


def compare(model: edgesdk.Model, threads: int, count: int, tokens: int) -> dict[str, object]:
    """Runs all prompts alone, then in every thread, and counts what differs."""
    lines = (Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [model.render_prompt(line) for line in lines[:count]]

    def ask(prompt: list[int]) -> tuple[int, ...]:
        return model.generate(prompt, max_tokens=tokens, temperature=0.0, repetition_penalty=1.0).tokens

    began = time.perf_counter()
    alone = [ask(prompt) for prompt in prompts]
    alone_s = time.perf_counter() - began
    barrier = threading.Barrier(threads)

    def work(index: int) -> int:
        barrier.wait()
        order = [(index * 7 + i) % len(prompts) for i in range(len(prompts))]
        return sum(ask(prompts[i]) != alone[i] for i in order)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        differing = sum(pool.map(work, range(threads)))
    together_s = time.perf_counter() - began
    return {
        "backend": model.receipt.backend,
        "answers": threads * len(prompts),
        "differing": differing,
        "alone_s_per_answer": round(alone_s / len(prompts), 3),
        "together_s_per_answer": round(together_s / threads / len(prompts), 3),
    }


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", default="f32", show_default=True)
@click.option("--threads", default=8, show_default=True)
@click.option("--prompts", default=20, show_default=True)
@click.option("--tokens", default=24, show_default=True)
def main(bundle: Path, recipe: str, threads: int, prompts: int, tokens: int) -> None:
    """Prints a line a backend."""
    wrong = 0
    for backend in BACKENDS:
        with edgesdk.load(bundle, recipe=recipe, backend=backend) as model:
            row = compare(model, threads, prompts, tokens)
        click.echo(json.dumps(row))
        wrong += int(str(row["differing"]))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
