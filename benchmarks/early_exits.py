"""Early exits on labelled texts: accuracy against compute, beside a fixed block and a threshold.

    python benchmarks/early_exits.py BUNDLE [--texts 600] [--tasks movie,product,editorial,tweets,brown]
        [--shots 4] [--loss 1.0] [--head labels] [--times 40] [--json FILE]

BUNDLE was converted with --exits. Every text is run once through the whole model and watched at every exit;
what the model says there is kept in the cache folder, so a second call only computes. Half of the texts train
the rules, a quarter chooses thresholds (at most --loss points of accuracy lost there), a quarter is reported.
--head all takes the head of all tokens, and chances over them, in place of the head over labels.
Compute counts the products of the blocks that are run for a text's own tokens, and every head. Rows with an
asterisk chose their threshold to spend what the SVM spends. Success is at least 10 % saved for at most one
point; a model that says one label to everything agrees with itself, so the majority class stands beside it.
Times are processor time of whole calls in turn, heads, features and decisions included.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
from exit_tasks import INSTRUCTIONS, TASKS, read_task
from rich import box
from rich.console import Console
from rich.table import Table

from edgesdk.bundle.integrity import cache_folder
from edgesdk.dispatch.exit_features import FEATURES, LOGIT_FEATURES
from edgesdk.dispatch.exit_rule import ExitRule, Head
from edgesdk.dispatch.exit_steps import exit_cost
from edgesdk.load_model import load
from edgesdk.model import Model
from edgesdk.vectors.classify import LabelTask, label_task
from edgesdk.vectors.labelled_texts import LabelledText, pick_shots
from edgesdk_converters.training.train_exits import ExitTraining, fixed_rules, learn_rule
from edgesdk_converters.training.watch_exits import (
    ExitScore,
    Watched,
    best_rule,
    choose_threshold,
    score_rule,
    score_thresholds,
    watch_task,
)

ABLATION = {
    "svm gap": ("gap",),
    "svm top_prob": ("top_prob",),
    "svm gap+top_prob": LOGIT_FEATURES,
    "svm cosines": FEATURES[2:],
    "svm all": FEATURES,
}


def watched(model: Model, name: str, task: LabelTask, texts: Sequence[LabelledText], head: Head) -> Watched:
    """What the model says of a task at every exit; looked up where it was watched before."""
    variant = model.bundle.variant(model.receipt.variant)
    numbers, stacks = variant.numbers, model.bundle.manifest.exits_of(variant)
    if stacks is None:
        raise click.ClickException("the bundle has no exits; convert it with --exits")
    words = json.dumps([numbers, stacks.exits, task.beginning, [asdict(text) for text in texts]])
    words += "" if head == "all" else head
    key = hashlib.sha256(words.encode()).hexdigest()[:24]
    path = cache_folder() / "exits" / f"{name}-{key}.npz"
    if path.is_file():
        kept = np.load(path)
        gold = np.array([task.labels.index(each.label) for each in texts])
        cost = exit_cost(model.decoder)
        rows, features, tokens = kept["rows"], kept["features"], kept["tokens"]
        return Watched(stacks.exits, rows, features, gold, tokens, cost, task.labels, numbers, head)
    found = watch_task(model, task, texts, head=head)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, rows=found.rows, features=found.features, tokens=found.tokens)
    return found


def at_compute(rule: ExitRule, choose: Watched, share: float) -> ExitRule:
    """The rule with the threshold that spends as much as a share, by the texts to choose by."""
    tried = score_thresholds(rule, choose)
    return min(tried, key=lambda each: abs(each[1].work_share - share))[0]


def rules_of(learn: Watched, choose: Watched, loss: float) -> dict[str, ExitRule]:
    """Every rule by its name in the table, thresholds chosen."""
    plain = learn_rule(learn, ExitTraining("top_prob"))
    fixed = fixed_rules(plain)
    found = {f"fixed {rule.exits[0]}": rule for rule in fixed}
    found["fixed, chosen"] = best_rule(fixed, choose, loss)
    found["top_prob"] = choose_threshold(plain, choose, loss)
    for name, features in ABLATION.items():
        found[name] = choose_threshold(learn_rule(learn, ExitTraining("svm", features)), choose, loss)
    found["crf gap+top_prob"] = choose_threshold(learn_rule(learn, ExitTraining("crf")), choose, loss)
    spent = score_rule(found["svm gap+top_prob"], choose).work_share
    found["top_prob*"] = at_compute(plain, choose, spent)
    found["fixed*"] = min(fixed, key=lambda each: abs(score_rule(each, choose).work_share - spent))
    return found


def fixed_of(rules: dict[str, ExitRule]) -> dict[str, ExitRule]:
    """Of these rules those of one block each."""
    return {f"fixed {rule.exits[0]}": rule for rule in rules.values() if rule.kind == "fixed"}


def show(name: str, scores: dict[str, ExitScore], console: Console) -> None:
    first = next(iter(scores.values()))
    table = Table(
        title=f"{name}: {first.texts} texts, majority class {first.majority:.1%}, whole model "
        f"{first.accuracy_whole:.1%}",
        box=box.SIMPLE_HEAD,
    )
    for column in ("rule", "accuracy", "lost", "agreement", "blocks", "work", "saved", "exits"):
        table.add_column(column, justify="left" if column in ("rule", "exits") else "right")
    for rule, score in scores.items():
        lost = (score.accuracy_whole - score.accuracy) * 100
        table.add_row(
            rule,
            f"{score.accuracy:.1%}",
            f"{lost:+.1f}",
            f"{score.agreement:.1%}",
            f"{score.blocks_share:.1%}",
            f"{score.work_share:.1%}",
            f"{1 - score.work_share:.1%}",
            " ".join(f"{blocks}:{count}" for blocks, count in score.exits.items()),
        )
    console.print(table)


def times(
    model: Model,
    rule: ExitRule,
    labels: Sequence[str],
    texts: Sequence[str],
    size: int,
    examples: Sequence[tuple[str, str]],
) -> dict[str, float]:
    """Processor time of classifying so many texts a call, over that of the whole model, by ratios in turn."""

    def once(batch: Sequence[str], early: ExitRule | None) -> float:
        started = time.process_time()
        model.classify_many(batch, labels, examples=examples, early_exit=early)
        return time.process_time() - started

    batches = [texts[i : i + size] for i in range(0, len(texts), size)]
    once(batches[0], None)
    once(batches[0], rule)
    pairs = [(once(batch, None), once(batch, rule)) for batch in batches]
    return {
        "ratio": statistics.median(early / whole for whole, early in pairs),
        "whole_ms": statistics.median(whole * 1e3 for whole, _ in pairs),
        "early_ms": statistics.median(early * 1e3 for _, early in pairs),
    }


@click.command()
@click.argument("bundle")
@click.option("--texts", "count", default=600, show_default=True)
@click.option("--tasks", default=",".join(TASKS), show_default=True)
@click.option("--shots", default=4, show_default=True)
@click.option("--loss", default=1.0, show_default=True)
@click.option("--head", type=click.Choice(["labels", "all"]), default="labels", show_default=True)
@click.option("--times", "timed", default=0, show_default=True, help="Texts to be timed.")
@click.option("--threads", default=1, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(
    bundle: str,
    count: int,
    tasks: str,
    shots: int,
    loss: float,
    head: Head,
    timed: int,
    threads: int,
    out: Path | None,
) -> None:
    console = Console(width=150)
    report: dict[str, object] = {}
    kept: dict[str, tuple[Watched, Watched, Watched, dict[str, ExitRule]]] = {}
    with load(bundle, threads=threads) as model:
        for name in tasks.split(","):
            chosen, rest = pick_shots(read_task(name, count + 40), shots, 0)
            labels = sorted({each.label for each in rest})
            examples = [(each.text, each.label) for each in chosen]
            task = label_task(model.tokenizer, labels, INSTRUCTIONS[name], examples)
            rest = rest[:count]
            learn, choose, judge = watched(model, name, task, rest, head).parts()
            rules = rules_of(learn, choose, loss)
            scores = {rule: score_rule(each, judge) for rule, each in rules.items()}
            show(name, scores, console)
            kept[name] = learn, choose, judge, rules
            report[name] = {rule: asdict(score) for rule, score in scores.items()}
            if timed:
                chosen_texts = [each.text for each in rest[-timed:]]
                # Over two labels a chance can round to 1.
                never = {"never": replace(rules["top_prob"], threshold=2.0)}
                chosen_rules = {"svm gap+top_prob": rules["svm gap+top_prob"], **never, **fixed_of(rules)}
                for rule, each in chosen_rules.items():
                    for kind, size, shown in (
                        ("one by one", 1, []),
                        ("by eights", 8, []),
                        ("by eights behind examples", 8, examples),
                    ):
                        found = times(model, each, labels, chosen_texts, size, shown)
                        report[f"{name} {rule} {kind}"] = found
                        console.print(
                            f"{name}, {rule}, {kind}: {found['early_ms']:.1f} ms of {found['whole_ms']:.1f} "
                            f"({found['ratio']:.3f}), processor time"
                        )
    report["transfer"] = transfer(kept, console)
    if out is not None:
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def transfer(
    kept: dict[str, tuple[Watched, Watched, Watched, dict[str, ExitRule]]], console: Console
) -> dict[str, dict[str, object]]:
    """Rules trained on one task, on the texts of another; only offsets are the other's, from texts alone."""
    table = Table(title="svm gap+top_prob from row on column: points lost / saved", box=box.SIMPLE_HEAD)
    table.add_column("trained on")
    for name in kept:
        table.add_column(name, justify="right")
    found: dict[str, dict[str, object]] = {}
    for source, (_, _, _, rules) in kept.items():
        row, found[source] = [], {}
        for target, (learn, _, judge, _) in kept.items():
            offsets = tuple(tuple(map(float, each)) for each in learn.offsets())
            rule = replace(rules["svm gap+top_prob"], labels=learn.labels, offsets=offsets)
            score = score_rule(rule, judge)
            found[source][target] = asdict(score)
            lost = (score.accuracy_whole - score.accuracy) * 100
            row.append(f"{lost:+.1f} / {1 - score.work_share:.1%}")
        table.add_row(source, *row)
    console.print(table)
    return found


if __name__ == "__main__":
    main()
