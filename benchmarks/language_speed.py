"""Characters per second of bundles with different vocabularies, at equal text: prompts, and writing.

    python benchmarks/language_speed.py TEXT before=BUNDLE after=BUNDLE... [--english FILE] [--json]

The first bundle is what the others are compared with. Each round goes through all of them in turn, with one
thread, by processor time: a prompt of the first `--characters` of TEXT (score of one row), then so many steps
behind it. Writing is the characters of a token, over the whole TEXT, by the time of a step. Shown are medians
over rounds, of ratios within rounds. Bits per byte of TEXT's beginning and of an English text, in pieces of
512 tokens, say what a vocabulary costs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import click
import numpy as np

import edgesdk
from edgesdk.evaluation.agreement import log_softmax

_PIECE = 512


@click.command(help=__doc__)
@click.argument("text", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("bundles", nargs=-1, required=True)
@click.option("--english", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--characters", default=1000, show_default=True)
@click.option("--steps", default=24, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--bytes", "judged", default=4000, show_default=True, help="Of each text, for bits per byte.")
@click.option("--json", "as_json", is_flag=True)
def main(
    text: Path,
    bundles: tuple[str, ...],
    english: Path | None,
    characters: int,
    steps: int,
    rounds: int,
    judged: int,
    as_json: bool,
) -> None:
    whole = text.read_text(encoding="utf-8")
    prompt = whole[:characters]
    models = {}
    for given in bundles:
        name, _, path = given.partition("=")
        models[name] = edgesdk.load(Path(path), threads=1)
    figures: dict[str, dict[str, list[float]]] = {name: {"prompt": [], "writing": []} for name in models}
    per_token = {
        name: len(whole) / len(model.tokenizer.encode(whole, add_bos=False)) for name, model in models.items()
    }
    for model in models.values():  # builds what is built with first use
        _seconds(model, model.tokenizer.encode(prompt, add_bos=False), 2)
    for _ in range(rounds):
        for name, model in models.items():
            ids = model.tokenizer.encode(prompt, add_bos=False)
            prefill = _seconds(model, ids, 1)
            step = (_seconds(model, ids, 1 + steps) - prefill) / steps
            figures[name]["prompt"].append(len(prompt) / prefill)
            figures[name]["writing"].append(per_token[name] / step)
    first = next(iter(models))
    for name, model in models.items():
        row: dict[str, object] = {
            "bundle": name,
            "vocabulary": model.decoder.vocab_size,
            "tokens_per_byte": round(len(whole) / per_token[name] / len(whole.encode()), 4),
            "bits_per_byte": round(_bits(model, whole, judged), 3),
        }
        if english is not None:
            row["english_bits_per_byte"] = round(_bits(model, english.read_text("utf-8"), judged), 3)
        for what in ("prompt", "writing"):
            ratios = [a / b for a, b in zip(figures[name][what], figures[first][what], strict=True)]
            row[f"{what}_characters_a_cpu_second"] = round(statistics.median(figures[name][what]), 1)
            row[f"{what}_ratio"] = round(statistics.median(ratios), 2)
            row[f"{what}_ratios"] = [round(each, 2) for each in ratios]
        print(
            json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items()),
            flush=True,
        )
    for model in models.values():
        model.close()


def _seconds(model: edgesdk.Model, ids: list[int], new: int) -> float:
    begun = time.process_time()
    model.generate(ids, max_tokens=new, ignore_eos=True, temperature=0.0)
    return time.process_time() - begun


def _bits(model: edgesdk.Model, text: str, judged: int) -> float:
    beginning = text.encode()[:judged].decode("utf-8", "ignore")
    ids = model.tokenizer.encode(beginning, add_bos=False)
    start = model.tokenizer.encode(" ", add_bos=False)[:1]
    nats = 0.0
    for place in range(0, len(ids), _PIECE):
        piece = [*start, *ids[place : place + _PIECE]]
        chances = log_softmax(model.score(piece)[:-1])
        nats -= float(chances[np.arange(len(piece) - 1), piece[1:]].sum())
    return nats / float(np.log(2)) / len(beginning.encode())


if __name__ == "__main__":
    sys.exit(main())
