"""Whether drafts change an answer: 100 prompts, greedy, with every drafter against plain decoding.

    python benchmarks/draft_identity.py BUNDLE [--recipe f32] [--prompts 100] [--tokens 64] [--draft BUNDLE]

`plain` is `Model.generate` without drafts. The others draft whatever they can, worth it or not: lookup in
chains and in trees, the trained draft, streams and the shallow stack where the bundle has them, a smaller
bundle where `--draft` names one, and `rigged`, which knows the answer: random trees, in which the right path
goes on for a while among wrong ones. With streams, it has them behind rows of its trees, too. Each alone
(`Model`), and eight at a time (`Engine`). `weighed` is lookup as users have it, which drafts what pays.

A text counts as identical when every token is the same; else its first difference counts as a near-tie when
the model's own logits of the two tokens, scored alone, differ by less than 0.001.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from engine_identity import SEATS, Answers, compare, read_prompts

import edgesdk
from edgesdk.decoding.draft import Draft, Drafter, DraftRequest, JudgedStep
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.drafts.bundle_drafts import open_bundle_drafts
from edgesdk.drafts.combine import CombinedDrafter
from edgesdk.drafts.lookup import Lookup
from edgesdk.drafts.open_streams import has_streams, require_streams
from edgesdk.drafts.stack_drafts import open_stack_drafts, shallow_stack
from edgesdk.drafts.stream_drafts import StreamDrafts
from edgesdk.drafts.stream_places import hang_streams
from edgesdk.drafts.trained_draft import has_trained_draft, open_trained_draft
from edgesdk.kv.step_model import steps_of
from edgesdk.model import Model

_RIGHT = 0.75
"""How often the next token of a rigged path is right."""


class RiggedDrafter:
    """Trees with right and wrong branches, drawn by a seed."""

    name = "rigged"
    nbytes = 0

    def __init__(
        self, prompts: Sequence[Sequence[int]], answers: Answers, vocabulary: int, streams: int = 0
    ) -> None:
        self._streams = streams
        self._texts = {tuple(prompt): answer for prompt, answer in zip(prompts, answers, strict=True)}
        self._vocabulary = vocabulary
        self._random = np.random.default_rng(0)

    def propose(self, asked: Sequence[DraftRequest]) -> list[Draft | None]:
        trees = [self._tree(request) for request in asked]
        return [self._with_streams(*pair) for pair in zip(trees, asked, strict=True)]

    def _with_streams(self, tree: Draft | None, request: DraftRequest) -> Draft | None:
        """Streams behind some of its rows, as many as there is room for."""
        if not self._streams:
            return tree
        keep = int(self._random.integers(0, request.most + 1))
        tree = None if tree is None else tree.cut(keep)
        size = 0 if tree is None else len(tree.tokens)
        nodes = [node for node in range(-1, size) if self._random.random() < _RIGHT]
        return hang_streams(tree, nodes, self._streams, request.most - size, request.deepest)

    def learn(self, step: JudgedStep) -> None:
        """Learns nothing."""

    def forget(self, key: int) -> None:
        """Keeps nothing."""

    def close(self) -> None:
        """Has nothing open."""

    def _tree(self, request: DraftRequest) -> Draft | None:
        answer = self._texts[tuple(request.tokens[: request.prompt].tolist())]
        begun = len(request.tokens) - request.prompt
        right = answer[begun:]
        if list(answer[:begun]) != request.tokens[request.prompt :].tolist():
            right = ()  # the answer is another one already
        draw = self._random
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        on_path: list[bool] = []
        for _ in range(int(draw.integers(1, request.most + 1))):
            parent = int(draw.integers(-1, len(tokens)))
            depth = depths[parent] + 1 if parent >= 0 else 0
            if depth >= request.deepest:
                continue
            good = (parent < 0 or on_path[parent]) and depth < len(right) and draw.random() < _RIGHT
            token = int(right[depth]) if good else int(draw.integers(0, self._vocabulary))
            if (parent, token) in zip(parents, tokens, strict=True):
                continue
            tokens.append(token)
            parents.append(parent)
            depths.append(depth)
            on_path.append(good)
        if not tokens:
            return None
        return Draft(np.array(tokens, np.int32), np.array(parents, np.int32))


def drafters(
    model: Model, prompts: list[list[int]], plain: Answers, other: Path | None
) -> Iterator[tuple[str, Callable[[], Drafter]]]:
    """Every drafter, by what it is called here."""
    bundle, receipt = model.bundle, model.receipt
    variant = bundle.variant(receipt.variant)
    threads = receipt.threads
    vocabulary = model.decoder.vocab_size
    steps = steps_of(model.backend)
    streams = require_streams(bundle, variant, steps).count if has_streams(variant, steps) else 0
    yield "rigged", lambda: RiggedDrafter(prompts, plain, vocabulary)
    yield "lookup, chains", lambda: CombinedDrafter([Lookup(branches=1)], weigh=False)
    yield "lookup, trees", lambda: CombinedDrafter([Lookup(branches=4)], weigh=False)
    yield "weighed", lambda: CombinedDrafter([Lookup()])
    if has_trained_draft(variant, steps):
        yield "trained", lambda: CombinedDrafter([open_trained_draft(bundle, variant, steps)], weigh=False)
    if streams:
        yield "streams", lambda: CombinedDrafter([StreamDrafts()], weigh=False, streams=streams)
        yield "rigged with streams", lambda: RiggedDrafter(prompts, plain, vocabulary, streams)
        yield "streams weighed", lambda: CombinedDrafter([Lookup(), StreamDrafts()], streams=streams)
    if shallow_stack(bundle, variant) is not None:
        yield (
            "shallow",
            lambda: CombinedDrafter(
                [open_stack_drafts(bundle, variant, backend=receipt.backend, device="cpu", threads=threads)],
                weigh=False,
            ),
        )
    if other is not None:
        yield (
            "bundle",
            lambda: CombinedDrafter([open_bundle_drafts(bundle, other, threads=threads)], weigh=False),
        )


def answer_alone(model: Model, prompts: list[list[int]], options: dict[str, object]) -> tuple[Answers, str]:
    """One answer after the other, and how many drafted tokens were kept."""
    found = [model.generate(prompt, **options) for prompt in prompts]  # type: ignore[arg-type]
    kept, drafted = (sum(getattr(one, f"{what}_tokens") for one in found) for what in ("kept", "drafted"))
    return [one.tokens for one in found], f"kept {kept} of {drafted}"


def answer_together(
    model: Model, prompts: list[list[int]], options: dict[str, object]
) -> tuple[Answers, str]:
    """Eight at a time."""
    with edgesdk.Engine(
        model, prefix_cache_mb=0, max_queue=len(prompts), token_budget=32, max_running=SEATS
    ) as engine:
        handed_in = [engine.submit(prompt, **options) for prompt in prompts]  # type: ignore[arg-type]
        answers = [generation.result().tokens for generation in handed_in]
        figures = engine.metrics
        return answers, f"kept {figures.kept_tokens} of {figures.drafted_tokens}"


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="f32", show_default=True)
@click.option("--backend", default="litert", show_default=True)
@click.option("--prompts", "count", default=100, show_default=True)
@click.option("--tokens", default=64, show_default=True)
@click.option("--threads", default=None, type=click.IntRange(min=1), help="CPU threads.")
@click.option("--draft", "other", default=None, type=click.Path(exists=True, path_type=Path))
@click.option("--ways", default=None, help="Only ways whose name begins with this.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    bundle: Path,
    recipe: str,
    backend: str,
    count: int,
    tokens: int,
    threads: int | None,
    other: Path | None,
    ways: str | None,
    path: Path | None,
) -> None:
    """Compares every drafter with plain decoding."""
    options: dict[str, object] = {
        "max_tokens": tokens,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": True,
    }
    with edgesdk.load(bundle, recipe=recipe, backend=backend, threads=threads, strict=True) as model:
        prompts = read_prompts(model, count)
        plain, _ = answer_alone(model, prompts, options)
        found = {}
        for name, make in drafters(model, prompts, plain, other):
            for way, answer in (("alone", answer_alone), ("batched", answer_together)):
                label = f"{name}, {way}"
                if ways is not None and not label.startswith(ways):
                    continue
                source = DraftSource(make(), make, model.decoder.vocab_size)
                drafted = Model(model.bundle, model.backend, model.receipt, drafts=source)
                answers, kept = answer(drafted, prompts, options)
                if source.notes:
                    raise click.ClickException("; ".join(source.notes))
                source.close()
                found[label] = {**compare(model, prompts, plain, answers), "drafts": kept}
                print(f"{recipe} {label}: {found[label]}", flush=True)
    if path is not None:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
