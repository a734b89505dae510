"""Whether an answer depends on how the engine came to it: 100 prompts, greedy, one way against another.

    python benchmarks/engine_identity.py BUNDLE [--recipe f32] [--prompts 100] [--tokens 64]

`alone` is `Model.generate`. The others are the engine: eight at a time (`batched`), prompts in pieces of the
smallest T (`chunked`), two samples that share their prompt's cells (`forked`), a session that is saved half
way and goes on in another engine (`restored`), and a prompt that is found in the prefix cache (`cached`).
A text counts as identical when every token is the same; else its first difference counts as a near-tie
when the model's own logits of the two tokens, scored alone, differ by less than 0.001.
"""

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk.model import Model

Answers = list[tuple[int, ...]]
SEATS = 8
BUDGET = 32


def read_prompts(model: Model, count: int) -> list[list[int]]:
    """Each prompt as a question to the model, then as the start of a text."""
    lines = (Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [model.render_prompt(line, raw=raw) for raw in (False, True) for line in lines]
    if len(prompts) < count:
        raise click.UsageError(f"there are {len(prompts)} prompts")
    return prompts[:count]


def batched(model: Model, prompts: list[list[int]], options: dict[str, object]) -> Answers:
    """Eight at a time."""
    with edgesdk.Engine(
        model, token_budget=BUDGET, max_running=SEATS, prefix_cache_mb=0, max_queue=len(prompts)
    ) as engine:
        handed_in = [engine.submit(prompt, **options) for prompt in prompts]
        return [generation.result().tokens for generation in handed_in]


def chunked(model: Model, prompts: list[list[int]], options: dict[str, object]) -> Answers:
    """Prompts in pieces: a stream that decodes beside them holds them to the budget."""
    with edgesdk.Engine(model, token_budget=SEATS, prefix_cache_mb=0) as engine:
        found = []
        for prompt in prompts:
            with engine.submit(prompts[0], **{**options, "max_tokens": None}) as beside:
                next(beside)
                found.append(engine.generate(prompt, **options).tokens)
        return found


def forked(model: Model, prompts: list[list[int]], options: dict[str, object]) -> Answers:
    """The second of two samples."""
    with edgesdk.Engine(model, token_budget=BUDGET, prefix_cache_mb=0) as engine:
        return [engine.submit(prompt, n=2, **options).results()[1].tokens for prompt in prompts]


def cached(model: Model, prompts: list[list[int]], options: dict[str, object]) -> Answers:
    """After prompts that were run before."""
    with edgesdk.Engine(model, token_budget=BUDGET) as engine:
        for prompt in prompts:
            engine.generate(prompt, **{**options, "max_tokens": 1})
        found = [engine.generate(prompt, **options).tokens for prompt in prompts]
        if engine.metrics.cache_hits < len(prompts):
            raise click.ClickException(f"only {engine.metrics.cache_hits} prompts were found in the cache")
        return found


def restored(model: Model, prompts: list[list[int]], options: dict[str, object]) -> Answers:
    """Half the answer, saved, and the other half in another engine."""
    tokens = int(str(options["max_tokens"]))
    half = tokens // 2
    first = []
    with tempfile.TemporaryDirectory() as folder:
        with edgesdk.Engine(model, token_budget=BUDGET, prefix_cache_mb=0) as engine:
            for index, prompt in enumerate(prompts):
                with engine.session() as session:
                    first.append(session.generate(prompt, **{**options, "max_tokens": half}).tokens)
                    session.save(Path(folder) / f"{index}")
        found = []
        with edgesdk.Engine(model, token_budget=BUDGET, prefix_cache_mb=0) as engine:
            for index, begun in enumerate(first):
                with engine.load_session(Path(folder) / f"{index}") as session:
                    # The last token was run by `save`; going back one gives its logits again.
                    last = session.tokens[-1]
                    session.rewind(session.length - 1)
                    rest = session.generate([last], **{**options, "max_tokens": tokens - half}).tokens
                    found.append(begun + rest)
        return found


WAYS: dict[str, Callable[[Model, list[list[int]], dict[str, object]], Answers]] = {
    "batched": batched,
    "chunked": chunked,
    "forked": forked,
    "restored": restored,
    "cached": cached,
}


def compare(model: Model, prompts: list[list[int]], one: Answers, other: Answers) -> dict[str, object]:
    """How many are the same, and what the model thought where they part."""
    identical, near, gaps, places = 0, 0, [], []
    for prompt, a, b in zip(prompts, one, other, strict=True):
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)
        if at is None:
            identical += 1
            continue
        row = model.score(np.array([*prompt, *a[:at]], np.int32))[-1]
        gap = float(abs(row[a[at]] - row[b[at]]))
        near += gap < NEAR_TIE
        gaps.append(gap)
        places.append(at)
    return {
        "prompts": len(prompts),
        "identical": identical,
        "near_ties": near,
        "median_gap": statistics.median(gaps) if gaps else None,
        "largest_gap": max(gaps, default=None),
        "median_first_difference": statistics.median(places) if places else None,
    }


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False))
@click.option("--recipe", default="f32", show_default=True)
@click.option("--backend", default="litert", show_default=True)
@click.option("--prompts", "count", default=100, show_default=True)
@click.option("--tokens", default=64, show_default=True)
@click.option("--threads", default=None, type=click.IntRange(min=1), help="CPU threads.")
@click.option("--ways", "wanted", default=",".join(WAYS), show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    bundle: str,
    recipe: str,
    backend: str,
    count: int,
    tokens: int,
    threads: int | None,
    wanted: str,
    path: Path | None,
) -> None:
    """Compares every way with `alone`."""
    names = wanted.split(",")
    if unknown := [name for name in names if name not in WAYS]:
        raise click.UsageError(f"--ways has {unknown[0]!r}, expected some of {', '.join(WAYS)}")
    options: dict[str, object] = {
        "max_tokens": tokens,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
    }
    with edgesdk.load(bundle, recipe=recipe, backend=backend, threads=threads, strict=True) as model:
        prompts = read_prompts(model, count)
        alone: Answers = [model.generate(prompt, **options).tokens for prompt in prompts]  # type: ignore[arg-type]
        found = {}
        for name in names:
            found[name] = compare(model, prompts, alone, WAYS[name](model, prompts, options))
            print(f"{recipe} {name}: {found[name]}", flush=True)
    if path is not None:
        path.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
