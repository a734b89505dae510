"""The texts that a draft learns from, in the target's tokens, each with where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgesdk.bundle.manifest import TOKENIZER_NAME
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.write_file import write_file
from edgesdk.engine.engine import Engine
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.calibration_windows import calibration_windows
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.drafts.draft_checkpoint import tokenizer_digest
from edgesdk_converters.quantise.calibration.calibration_text import builtin_calibration, read_calibration
from edgesdk_converters.training.check_training import ANSWERS, SAMPLE
from edgesdk_converters.training.features import LearningText
from edgesdk_converters.training.seed_instructions import (
    LICENCE,
    instructions,
    seed_digest,
    shipped_passages,
)
from edgesdk_converters.training.teach_texts import TEMPERATURES, TOP_P, read_texts, teach_texts
from edgesdk_converters.training.work_folder import TrainingTarget

_WINDOW = 256  # tokens of a window of plain text
_MOST_TEXT = 1 << 24
_RUNNING = 12  # answers at once: their cells fit into 2,048
_STEP_MS = 2000.0  # nobody waits for the next token

Provenance = dict[str, object]


class TextOptions(Protocol):
    """Which texts are learnt from; `DraftTraining` says what each is."""

    @property
    def data(self) -> tuple[str, ...]:
        """Kinds of data, and files."""

    @property
    def answer_tokens(self) -> int:
        """How many the target writes."""

    @property
    def seed(self) -> int:
        """Of instructions."""

    @property
    def teacher(self) -> Path | None:
        """Bundle that writes answers."""

    @property
    def threads(self) -> int | None:
        """Of the teacher."""


@dataclass(frozen=True)
class LearningData:
    """Texts with their origin.

    Attributes:
        texts: to learn from.
        answers: numbers of those that are greedy answers: what a draft is judged on.
        provenance: a record for each kind of data.
    """

    texts: list[LearningText]
    answers: frozenset[int]
    provenance: list[Provenance]


def learning_texts(target: TrainingTarget, options: TextOptions, say: Callable[[int], None]) -> LearningData:
    """Gathers texts; answers are written first where they are not there yet.

    Args:
        target: whose answers, and the folder for them and for the teacher.
        options: which data.
        say: told how many tokens of answers there are.

    Raises:
        UnsupportedOption: the teacher is no bundle of this target.
        CheckpointError: a file of answers is damaged.
    """
    texts: list[LearningText] = []
    greedy: set[int] = set()
    provenance: list[Provenance] = []
    # What is wrong with a file has to show before answers are written for hours.
    plain = {item: plain_text(target.checkpoint, item) for item in options.data if item != ANSWERS}
    for item in options.data:
        if item == ANSWERS:
            found, record = _answers(target, options, say)
            greedy.update(len(texts) + i for i, (_, cold) in enumerate(found) if cold)
            texts += [text for text, _ in found]
        else:
            found_text, record = plain[item]
            texts += found_text
        provenance.append(record)
    return LearningData(texts, frozenset(greedy), provenance)


def _answers(
    target: TrainingTarget, options: TextOptions, say: Callable[[int], None]
) -> tuple[list[tuple[LearningText, bool]], Provenance]:
    checkpoint, work = target.checkpoint, target.work
    path, about = work / "answers.jsonl", work / "answers.json"
    answers = read_texts(path) if path.exists() else []
    if sum(len(answer.answer) for answer in answers) < options.answer_tokens:
        bundle = options.teacher if options.teacher is not None else target.bundle("teacher")
        _check_teacher(bundle, checkpoint)
        asked = instructions(options.seed, shipped_passages())
        with Engine(bundle, threads=options.threads, max_running=_RUNNING, tbt_target_ms=_STEP_MS) as engine:
            written_by: Provenance = {
                "written_by": checkpoint.name,
                "weights": engine.model.bundle.variant(engine.model.receipt.variant).numbers,
                "licence_of_the_model": checkpoint.licence,
                "temperatures": list(TEMPERATURES),
                "top_p": TOP_P,
                "seed": options.seed,
                "instructions_sha256": seed_digest(),
                "licence_of_the_instructions": LICENCE,
            }
            _check_same(about, written_by)
            answers = teach_texts(engine, asked, path, options.answer_tokens, say=say)
    found = [
        (LearningText(np.array(a.prompt + a.answer, np.int32), len(a.prompt) - 1), a.temperature == 0)
        for a in answers
    ]
    record: Provenance = {
        "data": ANSWERS,
        "texts": len(answers),
        "tokens": sum(len(answer.answer) for answer in answers),
        **_read_about(about),
    }
    return found, record


def _check_same(about: Path, written_by: Provenance) -> None:
    """Notes by whom answers are written; refuses to go on with those of another model or seed."""
    if not about.exists():
        write_file(about, json.dumps(written_by, indent=1) + "\n")
        return
    before = _read_about(about)
    changed = next((key for key in written_by if before.get(key) != written_by[key]), None)
    if changed is not None:
        raise CheckpointError(
            f"the answers in {about.parent} have {changed} {before.get(changed)!r}, not "
            f"{written_by[changed]!r}; give another work folder"
        )


def _read_about(about: Path) -> Provenance:
    try:
        record = json.loads(about.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{about} cannot be read ({error}); remove {about.parent} to begin again"
        ) from None
    return record


def _check_teacher(bundle: Path, checkpoint: Checkpoint) -> None:
    """Refuses a bundle with another tokenizer."""
    opened = open_bundle(bundle)
    there = hashlib.sha256(opened.file(TOKENIZER_NAME).read_bytes()).hexdigest()
    if there != tokenizer_digest(checkpoint.tokenizer):
        raise UnsupportedOption(
            f"the teacher {bundle} has another tokenizer than {checkpoint.name}; give a bundle made of it"
        )


def plain_text(checkpoint: Checkpoint, item: str) -> tuple[list[LearningText], Provenance]:
    """Windows of 256 tokens of a text, or of the shipped sample, with where they come from.

    Raises:
        UnsupportedOption: the file cannot be read, or is shorter than a window.
    """
    sample = builtin_calibration() if item == SAMPLE else read_calibration(Path(item))
    windows: Sequence[np.ndarray[tuple[int], np.dtype[np.int32]]]
    windows = calibration_windows(checkpoint, sample, _WINDOW, _MOST_TEXT)
    record: Provenance = {
        "data": sample.name,
        "sha256": sample.sha256,
        "texts": len(windows),
        "tokens": sum(map(len, windows)),
        "licence": LICENCE if item == SAMPLE else "not stated",
    }
    return [LearningText(window, 0) for window in windows], record
