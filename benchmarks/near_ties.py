"""The answers that hang on least: where float32 hardly prefers its token, and what variants choose there.

    python benchmarks/near_ties.py SOURCE --bundle BUNDLE [--variants a,b] [--backends litert,onnxruntime]
        [--count 9]

"What is the capital of France?" and those of the package's 100 questions with the smallest gap between the
float32 reference's first two choices, anywhere in its answer of 16 tokens at most. For each: the two tokens,
the reference's gap between their logits, and the same difference in every variant that has read the same
question and answer. Below zero the variant says the second token, and another answer follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from chat_agreement import reference_chats
from quality import bundle_candidates, split_names
from rich import box
from rich.console import Console
from rich.table import Table

import edgesdk
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.cpu import usable_cores
from edgesdk.errors import EdgeError
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.default_model import fetch_default_model
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.full_sequence import sequence_logits
from edgesdk_converters.graph.program import Program
from edgesdk_converters.parity.answer_questions import ANSWER_TOKENS, questions

FIRST = "What is the capital of France?"


@dataclass(frozen=True)
class NearTie:
    """One place in one answer.

    Attributes:
        question: as it was asked.
        text: (n,) int32, question and answer up to here.
        first: the reference's choice.
        second: its next best.
        gap: between their logits.
    """

    question: str
    text: np.ndarray
    first: int
    second: int
    gap: float

    def difference(self, logits: np.ndarray) -> float:
        """Of the two tokens in (V,) logits after the text."""
        return float(logits[self.first] - logits[self.second])


def nearest(program: Program, line: str, question: np.ndarray, answer: np.ndarray) -> NearTie:
    """The smallest gap in one answer."""
    text = np.concatenate([question, answer[:-1]])
    rows = next(sequence_logits(program, [text]))[len(question) - 1 :]
    pairs = np.argsort(rows, axis=-1)[:, :-3:-1]
    best = np.take_along_axis(rows, pairs, axis=-1)
    at = int(np.argmin(best[:, 0] - best[:, 1]))
    first, second = (int(token) for token in pairs[at])
    return NearTie(line, text[: len(question) + at], first, second, float(best[at, 0] - best[at, 1]))


@click.command()
@click.argument("source")
@click.option("--bundle", "bundles", multiple=True, required=True, type=click.Path(file_okay=False))
@click.option("--variants", default="", callback=split_names, help="only these; default: all")
@click.option("--backends", default="litert,onnxruntime", show_default=True, callback=split_names)
@click.option("--count", default=9, show_default=True, type=click.IntRange(1, 100), help="beside the first")
@click.option("--threads", default=None, type=click.IntRange(min=1), help="default: every usable core")
def main(
    source: str,
    bundles: tuple[str, ...],
    variants: tuple[str, ...],
    backends: tuple[str, ...],
    count: int,
    threads: int | None,
) -> None:
    """Prints near-ties and what every variant makes of them."""
    threads = threads or usable_cores()
    try:
        path = fetch_default_model(source) if source in NAMED_MODELS else Path(source)
        checkpoint = open_checkpoint(str(path))
        opened = [open_bundle(bundle) for bundle in bundles]
        candidates = bundle_candidates(opened, checkpoint.source, variants, backends, threads)
        with edgesdk.load(bundles[0], threads=threads) as model:
            lines = [FIRST, *questions()]
            asked = [np.asarray(model.render_prompt(line), np.int32) for line in lines]
            if any(len(question) + ANSWER_TOKENS > model.context for question in asked):
                raise click.ClickException("a question does not fit; give a bundle with more context")
            record, spell = model.tokenizer.record, model.tokenizer.decode
        chats = reference_chats(checkpoint, asked, record.eos_ids)
        program = read_program(checkpoint)
        with click.progressbar(list(zip(lines, chats.questions, chats.answers, strict=True))) as bar:
            found = [nearest(program, *item) for item in bar]
        ties = [found[0], *sorted(found[1:], key=lambda tie: tie.gap)[:count]]
        differences = []
        for candidate in candidates:
            differences.append([tie.difference(candidate.score(tie.text)[-1]) for tie in ties])
            candidate.close()
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    table = Table(box=box.MARKDOWN)
    for name in ("question", "float32 says, not", "float32", *(c.name for c in candidates)):
        table.add_column(name)
    for tie, *values in zip(ties, *differences, strict=True):
        pair = " / ".join(repr(spell([token])) for token in (tie.first, tie.second))
        table.add_row(tie.question, pair, f"{tie.gap:.3f}", *(f"{value:+.3f}" for value in values))
    Console(width=220).print(table)


if __name__ == "__main__":
    main()
