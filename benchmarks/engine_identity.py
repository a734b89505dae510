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
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.evaluation.greedy import NEAR_TIE
from edgesdk.model import Model

Answers = list[tuple[int, ...]]
SEATS = 8


def read_prompts(model: Model, count: int) -> list[list[int]]:
    """Each prompt as a question to the model, then as the start of a text."""
    lines = (Path(__file__).parent / "prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts = [model.render_prompt(line, raw=raw) for raw in (False, True) for line in lines]
    if len(prompts) < count:
        raise click.UsageError(f"there are {len(prompts)} prompts")
    return prompts[:count]


def ways(model: Model, prompts: list[list[int]], tokens: int) -> dict[str, Answers]:
    """Answers by the way they were made."""
    options = {"max_tokens": tokens, "temperature": 0.0, "repetition_penalty": 1.0, "ignore_eos": True}
    answers = {"alone": [model.generate(prompt, **options).tokens for prompt in prompts]}
    budget = 32
    with edgesdk.Engine(model, token_budget=budget, prefix_cache_mb=0, max_queue=len(prompts)) as engine:
        handed_in = [engine.submit(prompt, **options) for prompt in prompts]
        answers["batched"] = [generation.result().tokens for generation in handed_in]
    with edgesdk.Engine(model, token_budget=SEATS, prefix_cache_mb=0) as engine:
        # A stream that decodes beside it holds the prompt to the budget.
        answers["chunked"] = []
        for prompt in prompts:
            with engine.submit(prompts[0], **{**options, "max_tokens": None}) as beside:
                next(beside)
                answers["chunked"].append(engine.generate(prompt, **options).tokens)
    with edgesdk.Engine(model, token_budget=budget, prefix_cache_mb=0) as engine:
        both = [engine.submit(prompt, n=2, **options).results() for prompt in prompts]
        answers["forked"] = [second.tokens for _, second in both]
    answers["restored"] = restored(model, prompts, tokens, options)
    with edgesdk.Engine(model, token_budget=budget) as engine:
        for prompt in prompts:
            engine.generate(prompt, **{**options, "max_tokens": 1})
        answers["cached"] = [engine.generate(prompt, **options).tokens for prompt in prompts]
        if engine.metrics.cache_hits < len(prompts):
            raise click.ClickException(f"only {engine.metrics.cache_hits} prompts were found in the cache")
    return answers


def restored(model: Model, prompts: list[list[int]], tokens: int, options: dict[str, object]) -> Answers:
    """Half the answer, saved, and the other half in another engine."""
    half = tokens // 2
    first = []
    with tempfile.TemporaryDirectory() as folder:
        with edgesdk.Engine(model, token_budget=32, prefix_cache_mb=0) as engine:
            for index, prompt in enumerate(prompts):
                with engine.session() as session:
                    first.append(session.generate(prompt, **{**options, "max_tokens": half}).tokens)
                    session.save(Path(folder) / f"{index}")
        found = []
        with edgesdk.Engine(model, token_budget=32, prefix_cache_mb=0) as engine:
            for index, begun in enumerate(first):
                with engine.load_session(Path(folder) / f"{index}") as session:
                    # The last token was run by `save`; going back one gives its logits again.
                    last = session.tokens[-1]
                    session.rewind(session.length - 1)
                    rest = session.generate([last], **{**options, "max_tokens": tokens - half}).tokens
                    found.append(begun + rest)
        return found


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
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    bundle: str, recipe: str, backend: str, count: int, tokens: int, threads: int | None, path: Path | None
) -> None:
    """Compares every way with `alone`."""
    with edgesdk.load(bundle, recipe=recipe, backend=backend, threads=threads, strict=True) as model:
        prompts = read_prompts(model, count)
        answers = ways(model, prompts, tokens)
        found = {}
        for way, texts in answers.items():
            if way == "alone":
                continue
            found[way] = compare(model, prompts, answers["alone"], texts)
            print(f"{recipe} {way}: {found[way]}", flush=True)
    if path is not None:
        path.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
