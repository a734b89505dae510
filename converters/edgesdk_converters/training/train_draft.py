"""Trains a draft for a target: texts, states of the frozen target, training, a checkpoint for `convert`.

Whatever was done stays in the work folder and is not done again: a run that was ended goes on where it was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter, Report, Stage
from edgesdk_converters.training.check_training import ANSWERS
from edgesdk_converters.training.choose_words import check_words, choose_words
from edgesdk_converters.training.draft_batches import DraftBatches
from edgesdk_converters.training.draft_learner import DraftLearner, Frozen, freeze
from edgesdk_converters.training.draft_training import DraftTraining
from edgesdk_converters.training.features import Features
from edgesdk_converters.training.learning_texts import LearningData, learning_texts
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.measure_draft import DraftWorth, measure_draft
from edgesdk_converters.training.plot_losses import plot_losses
from edgesdk_converters.training.recurrent_draft import DraftShape, Parameters
from edgesdk_converters.training.texts_by_bundle import read_texts_by_bundle
from edgesdk_converters.training.trainer import LOG_FILE, Trainer, TrainOptions, read_log
from edgesdk_converters.training.work_folder import (
    TrainingTarget,
    hold_back,
    plan_steps,
    run_trainer,
    take_work_folder,
    tell_tokens,
)

_MANY_PASSES = 4  # a draft of SmolLM2-135M knew its texts by heart after three


@dataclass(frozen=True)
class DraftReport:
    """What a training made.

    Attributes:
        draft: folder of the checkpoint.
        steps: of training.
        positions: learnt from, each time counted.
        worth: on greedy answers that were held back; None where there were none.
        plotted: whether the losses were drawn.
    """

    draft: Path
    steps: int
    positions: int
    worth: DraftWorth | None
    plotted: bool


def train_draft(
    source: str,
    out: Path,
    options: DraftTraining,
    *,
    revision: str | None = None,
    report: Report | None = None,
) -> DraftReport:
    """Trains a draft and writes it.

    Args:
        source: the target: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        out: folder for the draft.
        options: what and on what.
        revision: commit, branch or tag of a hub id.
        report: told how far it is.

    Raises:
        CheckpointError: the target or what is in the work folder cannot be read, or belongs to another run.
        TransformError: the training diverged.
        UnsupportedOption: the options do not suit the target.
        OSError: a file cannot be written; what stood there before does still.
        KeyboardInterrupt: after state and draft were written as far as they were.
    """
    meter = ProgressMeter(report, _stages(options))
    meter.enter("reading", f"reading {source}")
    checkpoint = open_checkpoint(source, revision=revision)
    program = read_program(checkpoint)
    # Before hours of answers and states, not after them.
    config = _config(checkpoint, program, options)
    check_words(checkpoint.tokenizer.record.eos_ids, program.spec.vocab_size, options.words)
    work = options.work if options.work is not None else out / "work"
    target = take_work_folder(source, revision, checkpoint, program, work)

    meter.enter("teaching", "gathering texts")
    meter.expect(options.answer_tokens)
    data = learning_texts(target, options, tell_tokens(meter, "{} tokens written by the target"))
    meter.enter("reading", "running the target over the texts")
    meter.expect(sum(len(text.tokens) for text in data.texts))
    features = read_texts_by_bundle(target, data, options.threads, meter)
    return _DraftRun(target, options, config, features, data, out).train(meter)


class _DraftRun:
    """One training of one draft, with what it needs."""

    def __init__(
        self,
        target: TrainingTarget,
        options: DraftTraining,
        config: DraftConfig,
        features: Features,
        data: LearningData,
        out: Path,
    ) -> None:
        self._options, self._config, self._features, self._data = options, config, features, data
        self._checkpoint, self._out, self._run = target.checkpoint, out, target.run_folder("draft")
        program = target.program
        spec = program.spec
        self._shape = DraftShape(
            spec.hidden_size, options.width, options.layers, spec.norm_eps, options.numbers
        )
        self._held = sorted(hold_back(data.answers))
        kept = [i for i in range(len(features.bounds)) if i not in self._held]
        learnt = replace(features, bounds=features.bounds[kept])
        ends = target.checkpoint.tokenizer.record.eos_ids
        said = (features.tokens[s + first : s + n] for s, n, first in learnt.bounds.tolist())
        self._words = choose_words(said, ends, spec.vocab_size, options.words)
        self._frozen: Frozen = freeze(program, self._words)
        self._batches = DraftBatches(learnt, options.depth, options.windows, options.seed)
        self._learner = DraftLearner(
            self._shape, self._frozen, self._batches, find_loss(options.loss), options.seed
        )

    def train(self, meter: ProgressMeter) -> DraftReport:
        options, plan = self._options, self._options.settings()
        steps = plan_steps(options.steps, options.hours, plan, self._learner, self._run, meter)
        settings = TrainOptions(steps, learning_rate=options.learning_rate, seed=options.seed)
        trainer = Trainer(self._learner, settings, self._run, plan)
        passes = steps / self._batches.of_a_pass
        if passes > _MANY_PASSES:
            meter.note(
                f"note: the draft will read every text {passes:.0f} times; more text would teach it more "
                "than more time does (--tokens, --data)"
            )

        def left() -> None:
            self._write(trainer.state.parameters, trainer.state.step, None)

        run_trainer(trainer, meter, "tokens", left)
        meter.enter("proving", "judging the draft on texts that were held back")
        worth = None
        if self._held:
            parameters = trainer.state.parameters
            worth = measure_draft(self._shape, parameters, self._frozen, self._features, self._held)
        plotted = self._write(trainer.state.parameters, steps, worth)
        return DraftReport(self._out, steps, steps * self._batches.positions, worth, plotted)

    def _write(self, parameters: Parameters, steps: int, worth: DraftWorth | None) -> bool:
        tensors = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
        lines = read_log(self._run / LOG_FILE)
        record: dict[str, object] = {
            "target": {"name": self._checkpoint.name, "source": asdict(self._checkpoint.source)},
            "options": self._options.settings(),
            "steps": steps,
            "positions_of_a_step": self._batches.positions,
            "passes": round(steps / self._batches.of_a_pass, 2),
            "data": self._data.provenance,
            "held_back": None if worth is None else asdict(worth),
            "log": lines,
        }
        training = cast("dict[str, JsonValue]", to_json(record))
        draft = DraftCheckpoint(self._config, tensors, self._words)
        write_draft(self._out, draft, training, numbers="float16")
        return plot_losses(lines, self._out / "losses.svg")


def _config(checkpoint: Checkpoint, program: Program, options: DraftTraining) -> DraftConfig:
    """What the draft will be.

    Raises:
        UnsupportedOption: its sizes are those of no draft.
    """
    spec = program.spec
    digest = tokenizer_digest(checkpoint.tokenizer)
    target = DraftTarget(spec.architecture, spec.vocab_size, spec.hidden_size, digest, checkpoint.name)
    try:
        return DraftConfig(
            spec.hidden_size, options.width, options.layers, options.depth, spec.norm_eps, target
        )
    except ValueError as error:
        raise UnsupportedOption(f"{error}; no draft of {checkpoint.name} is like that") from None


def _stages(options: DraftTraining) -> list[tuple[Stage, float]]:
    """The stages, by about the seconds that they take on two cores for a model of 135M parameters."""
    written = options.answer_tokens / 300 if ANSWERS in options.data else 1.0
    trained = options.hours * 3600 if options.hours is not None else (options.steps or 0) * 0.6
    return [
        ("reading", 2.0),
        ("teaching", written),
        ("reading", options.answer_tokens / 700),
        ("training", trained),
        ("proving", 10.0),
    ]
