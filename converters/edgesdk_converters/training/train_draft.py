"""Trains a draft for a target: texts, states of the frozen target, training, a checkpoint for `convert`.

Whatever was done stays in the work folder and is not done again: a run that was ended goes on where it was.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import (
    DraftCheckpoint,
    DraftConfig,
    DraftTarget,
    tokenizer_digest,
    write_draft,
)
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter, Report, Stage
from edgesdk_converters.training.choose_words import check_words, choose_words
from edgesdk_converters.training.draft_batches import DraftBatches
from edgesdk_converters.training.draft_learner import DraftLearner, Frozen, freeze
from edgesdk_converters.training.draft_training import ANSWERS, DraftTraining
from edgesdk_converters.training.features import Features, collect_features
from edgesdk_converters.training.learning_texts import LearningData, learning_texts, running_target
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.measure_draft import DraftWorth, measure_draft
from edgesdk_converters.training.plot_losses import plot_losses
from edgesdk_converters.training.recurrent_draft import DraftShape, Parameters
from edgesdk_converters.training.trainer import LOG_FILE, Told, Trainer, TrainOptions, read_log
from edgesdk_converters.training.work_folder import (
    TARGET_FILE,
    check_target,
    hold_back,
    plan_steps,
    target_origin,
    tell_tokens,
)

_READ_AS = "as its bundle says"  # other states than the evaluator's are not mixed with them
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
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    # Before hours of answers and states, not after them.
    config = _config(checkpoint, program, options)
    check_words(checkpoint.tokenizer.record.eos_ids, spec.vocab_size, options.words)
    work = options.work if options.work is not None else out / "work"
    work.mkdir(parents=True, exist_ok=True)
    origin = target_origin(checkpoint, program)
    check_target(work / TARGET_FILE, checkpoint.name, origin)

    meter.enter("teaching", "gathering texts")
    meter.expect(options.answer_tokens)
    data = learning_texts(
        source, checkpoint, options, work, tell_tokens(meter, "{} tokens written by the target")
    )
    meter.enter("reading", "running the target over the texts")
    meter.expect(sum(len(text.tokens) for text in data.texts))
    read_as = f"{origin} {_READ_AS}"
    with closing(running_target(source, program, options, work)) as target:
        tell = tell_tokens(meter, "the target has read {} tokens")
        features = collect_features(target, data.texts, work / "features", read_as, tell)
    run = _DraftRun(checkpoint, program, options, config, features, data, out, work)
    return run.train(meter)


class _DraftRun:
    """One training of one draft, with what it needs."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        program: Program,
        options: DraftTraining,
        config: DraftConfig,
        features: Features,
        data: LearningData,
        out: Path,
        work: Path,
    ) -> None:
        self._checkpoint, self._program, self._options = checkpoint, program, options
        self._config, self._features, self._data = config, features, data
        self._out, self._work = out, work
        spec = program.spec
        self._shape = DraftShape(
            spec.hidden_size, options.width, options.layers, spec.norm_eps, options.numbers
        )
        self._held = sorted(hold_back(data.answers))
        kept = [i for i in range(len(features.bounds)) if i not in self._held]
        learnt = replace(features, bounds=features.bounds[kept])
        ends = checkpoint.tokenizer.record.eos_ids
        said = (features.tokens[s + first : s + n] for s, n, first in learnt.bounds.tolist())
        self._words = choose_words(said, ends, spec.vocab_size, options.words)
        self._frozen: Frozen = freeze(program, self._words)
        self._batches = DraftBatches(learnt, options.depth, options.windows, options.seed)
        self._learner = DraftLearner(
            self._shape, self._frozen, self._batches, find_loss(options.loss), options.seed
        )

    def train(self, meter: ProgressMeter) -> DraftReport:
        steps = plan_steps(
            self._options.steps,
            self._options.hours,
            self._options.settings(),
            self._learner,
            self._work,
            meter,
        )
        settings = TrainOptions(steps, learning_rate=self._options.learning_rate, seed=self._options.seed)
        trainer = Trainer(self._learner, settings, self._work, self._options.settings())
        passes = settings.steps / self._batches.of_a_pass
        if passes > _MANY_PASSES:
            meter.note(
                f"note: the draft will read every text {passes:.0f} times; more text would teach it more "
                "than more time does (--tokens, --data)"
            )
        meter.enter("training", f"training {settings.steps} steps of {self._batches.positions} tokens")
        meter.expect(settings.steps)
        done = trainer.state.step
        meter.say(f"{done} of {settings.steps} steps are done", done)

        def told(line: Told) -> None:
            nonlocal done
            meter.say(
                f"step {line.step} of {line.steps}, loss {line.loss:.4f}, {line.tokens_per_s:.0f} tokens/s",
                line.step - done,
            )
            done = line.step

        try:
            trainer.run(told)
        except KeyboardInterrupt:
            self._write(trainer.state.parameters, trainer.state.step, None)
            raise
        meter.enter("proving", "judging the draft on texts that were held back")
        worth = None
        if self._held:
            parameters = trainer.state.parameters
            worth = measure_draft(self._shape, parameters, self._frozen, self._features, self._held)
        plotted = self._write(trainer.state.parameters, settings.steps, worth)
        return DraftReport(
            self._out, settings.steps, settings.steps * self._batches.positions, worth, plotted
        )

    def _write(self, parameters: Parameters, steps: int, worth: DraftWorth | None) -> bool:
        tensors = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
        lines = read_log(self._work / LOG_FILE)
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
