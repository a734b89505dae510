"""Chat agreement on 300 held-out questions: bundles beside llama.cpp's types of the same source.

    python benchmarks/chat_agreement.py SOURCE --bundle BUNDLE [--bundle OTHER] [--peers Q8_0,Q4_1]
        [--questions 300] [--json FILE] [--peer-python PYTHON]

The questions (benchmarks/chat_questions.txt) are put in the chat template of the first bundle, and are
others than those that `convert` and `verify` ask. The float32 evaluator on the source's weights answers
each greedily, with 16 tokens at most. A candidate is given question and answer at once: it would have
given the same answer if each of these tokens is its own first choice. Reported are the share of such
questions, with its standard error, and how many tokens are the same before the first other one.

Token ids are made once and given to all. The reference's answers are kept in the cache folder. llama.cpp runs
as in benchmarks/quality.py.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from candidates import Candidate
from quality import bundle_candidates, digest_of, peer_candidates, split_names
from rich import box
from rich.console import Console
from rich.table import Table

import edgesdk
from edgesdk.bundle.integrity import cache_folder
from edgesdk.bundle.reader import open_bundle
from edgesdk.devices.cpu import usable_cores
from edgesdk.errors import EdgeError
from edgesdk.evaluation.chats import Chats
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.default_model import fetch_default_model
from edgesdk_converters.checkpoints.named_models import NAMED_MODELS
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.parity.answer_questions import ANSWER_TOKENS, answer_questions

QUESTIONS = Path(__file__).parent / "chat_questions.txt"
_LONGEST = 256


@dataclass(frozen=True)
class Row:
    """One candidate.

    Attributes:
        name: of the candidate.
        weights_bytes: size of the files that hold its weights.
        questions: that were put.
        equal: whose every token was the reference's.
        share: of them.
        share_error: standard error of the share.
        same_tokens: mean number of tokens before the first other one.
        same: that number for each question, in order.
    """

    name: str
    weights_bytes: int
    questions: int
    equal: int
    share: float
    share_error: float
    same_tokens: float
    same: tuple[int, ...]


def same_tokens(candidate: Candidate, question: np.ndarray, answer: np.ndarray) -> int:
    """How many tokens of an answer a candidate would have chosen before its first other choice."""
    rows = candidate.score(np.concatenate([question, answer[:-1]]))[len(question) - 1 :]
    other = np.flatnonzero(rows.argmax(-1) != answer)
    return int(other[0]) if len(other) else len(answer)


def measure_one(candidate: Candidate, chats: Chats) -> Row:
    """Puts every question to a candidate."""
    pairs = list(zip(chats.questions, chats.answers, strict=True))
    try:
        with click.progressbar(pairs, label=candidate.name, file=sys.stderr) as bar:
            same = [same_tokens(candidate, question, answer) for question, answer in bar]
    finally:
        candidate.close()
    equal = sum(n == len(answer) for n, (_, answer) in zip(same, pairs, strict=True))
    share = equal / len(pairs)
    return Row(
        candidate.name,
        candidate.weights_bytes,
        len(pairs),
        equal,
        share,
        (share * (1 - share) / len(pairs)) ** 0.5,
        float(np.mean(same)),
        tuple(same),
    )


def reference_chats(checkpoint: Checkpoint, asked: Sequence[np.ndarray], ends: Sequence[int]) -> Chats:
    """The float32 evaluator's answers, computed once and then read."""
    digest = hashlib.sha256(digest_of(checkpoint.source).encode())
    for question in asked:
        digest.update(question.astype("<i4").tobytes())
    path = cache_folder() / "quality" / "chats" / f"{digest.hexdigest()[:24]}-{ANSWER_TOKENS}.json"
    if path.exists():
        answers = json.loads(path.read_text(encoding="utf-8"))
        return Chats(tuple(asked), tuple(np.array(answer, np.int32) for answer in answers))
    program = read_program(checkpoint)
    chats = answer_questions(program, asked, ends)
    if chats is None:
        raise click.ClickException(
            f"{QUESTIONS.name} has no question that fits; give a bundle with more context"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([answer.tolist() for answer in chats.answers]), encoding="utf-8")
    return chats


def show(rows: Sequence[Row]) -> None:
    """Prints a table that can go into a document as it is."""
    table = Table(box=box.MARKDOWN)
    for name in ("", "MB", "equal", "share", f"same tokens of {ANSWER_TOKENS}"):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        share = f"{row.share:.3f} ± {row.share_error:.3f}"
        equal = f"{row.equal} of {row.questions}"
        table.add_row(row.name, f"{row.weights_bytes / 1e6:.1f}", equal, share, f"{row.same_tokens:.2f}")
    Console(width=160).print(table)


@click.command()
@click.argument("source")
@click.option("--bundle", "bundles", multiple=True, required=True, type=click.Path(file_okay=False))
@click.option("--variants", default="", callback=split_names, help="only these; default: all")
@click.option("--backends", default="litert,onnxruntime", show_default=True, callback=split_names)
@click.option("--peers", default="Q8_0,Q4_1", show_default=True, callback=split_names)
@click.option("--peer-python", "given_python", type=click.Path(), help="an interpreter with llama-cpp-python")
@click.option("--questions", "count", default=300, show_default=True, type=click.IntRange(min=1))
@click.option("--threads", default=None, type=click.IntRange(min=1), help="default: every usable core")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write the figures to this file")
def main(
    source: str,
    bundles: tuple[str, ...],
    variants: tuple[str, ...],
    backends: tuple[str, ...],
    peers: tuple[str, ...],
    given_python: str | None,
    count: int,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Prints how many of the questions every candidate answers as the float32 reference does."""
    threads = threads or usable_cores()
    try:
        path = fetch_default_model(source) if source in NAMED_MODELS else Path(source)
        checkpoint = open_checkpoint(str(path))
        opened = [open_bundle(bundle) for bundle in bundles]
        candidates: list[Candidate] = [
            *bundle_candidates(opened, checkpoint.source, variants, backends, threads),
            *peer_candidates(checkpoint, path, peers, given_python, _LONGEST, threads),
        ]
        with edgesdk.load(bundles[0], threads=threads) as model:
            lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[:count]
            asked = [np.asarray(model.render_prompt(line), np.int32) for line in lines]
            room = min(model.context, _LONGEST) - ANSWER_TOKENS
            asked = [question for question in asked if 0 < len(question) <= room]
            ends = model.tokenizer.record.eos_ids
        chats = reference_chats(checkpoint, asked, ends)
        rows = [measure_one(candidate, chats) for candidate in candidates]
    except EdgeError as error:
        raise click.ClickException(str(error)) from error
    show(rows)
    if json_file is not None:
        document = {"source": digest_of(checkpoint.source), "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
