"""Trains streams for a target: texts, states of the frozen target, training, a checkpoint for `convert`.

Texts and states are those of `train_draft`, in the same places of a work folder: streams and a draft of one
target can learn from the same answers. Whatever was done is not done again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.architectures.registry import read_spec, weights_for
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.graph.decoder import build_decoder
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter, Report, Stage
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, write_streams
from edgesdk_converters.streams.stream_config import PARTS, StreamConfig
from edgesdk_converters.streams.stream_start import stream_before
from edgesdk_converters.training.choose_words import check_words, choose_words
from edgesdk_converters.training.draft_learner import freeze
from edgesdk_converters.training.draft_training import ANSWERS
from edgesdk_converters.training.features import Features, collect_features
from edgesdk_converters.training.frozen_target import FrozenTarget
from edgesdk_converters.training.learning_texts import LearningData, learning_texts
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.measure_streams import StreamWorth, measure_streams
from edgesdk_converters.training.plot_losses import plot_losses
from edgesdk_converters.training.stream_batches import StreamBatches
from edgesdk_converters.training.stream_learner import StreamLearner, StreamRows, Tensors
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.trainer import LOG_FILE, Told, Trainer, TrainOptions, read_log
from edgesdk_converters.training.work_folder import (
    TARGET_FILE,
    check_target,
    hold_back,
    plan_steps,
    target_origin,
    tell_tokens,
)

_TARGET_TOKENS = 512  # of one call of the frozen target


@dataclass(frozen=True)
class StreamReport:
    """What a training made.

    Attributes:
        streams: folder of the checkpoint.
        form: where they begin.
        steps: of training.
        places: learnt from, each time counted.
        parameters: numbers that were trained.
        share: of the target's.
        worth: on greedy answers that were held back; None where there were none.
        plotted: whether the losses were drawn.
    """

    streams: Path
    form: str
    steps: int
    places: int
    parameters: int
    share: float
    worth: StreamWorth | None
    plotted: bool


def train_streams(
    source: str,
    out: Path,
    options: StreamTraining,
    *,
    revision: str | None = None,
    report: Report | None = None,
) -> StreamReport:
    """Trains streams and writes them.

    Args:
        source: the target: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        out: folder for the streams.
        options: what and on what.
        revision: commit, branch or tag of a hub id.
        report: told how far it is.

    Raises:
        CheckpointError: the target or what is in the work folder cannot be read, or belongs to another run.
        TransformError: the training diverged.
        UnsupportedOption: the options do not suit the target.
        OSError: a file cannot be written; what stood there before does still.
        KeyboardInterrupt: after state and streams were written as far as they were.
    """
    meter = ProgressMeter(report, _stages(options))
    meter.enter("reading", f"reading {source}")
    checkpoint = open_checkpoint(source, revision=revision)
    spec = read_spec(checkpoint.config)
    program = Program(spec, build_decoder(spec), weights_for(checkpoint, spec))
    # Before hours of answers and states, not after them.
    rows = StreamRows(_config(checkpoint, program, options), program, options.tokens, options.numbers)
    check_words(checkpoint.tokenizer.record.eos_ids, spec.vocab_size, min(options.words, spec.vocab_size))
    work = options.work if options.work is not None else out / "work"
    work.mkdir(parents=True, exist_ok=True)
    origin = target_origin(checkpoint, program)
    check_target(work / TARGET_FILE, checkpoint.name, origin)

    meter.enter("teaching", "gathering texts")
    meter.expect(options.answer_tokens)
    say = tell_tokens(meter, "{} tokens written by the target")
    data = learning_texts(source, checkpoint, options, work, say)
    meter.enter("reading", "running the target over the texts")
    wanted: dict[str, str | None] = {"features": None}
    if rows.config.first:
        start = stream_before(program.graph, spec, rows.config.first)
        wanted[f"states.{rows.config.first}"] = start
    meter.expect(len(wanted) * sum(len(text.tokens) for text in data.texts))
    found = []
    for name, value in wanted.items():
        target = FrozenTarget(program, _TARGET_TOKENS, *(() if value is None else (value,)))
        say = tell_tokens(meter, "the target has read {} tokens")
        found.append(collect_features(target, data.texts, work / name, origin, say))
        del target
    run = _StreamRun(checkpoint, program, options, rows, found, data, out, work)
    return run.train(meter)


class _StreamRun:
    """One training of streams, with what it needs."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        program: Program,
        options: StreamTraining,
        rows: StreamRows,
        features: list[Features],
        data: LearningData,
        out: Path,
        work: Path,
    ) -> None:
        self._checkpoint, self._program, self._options = checkpoint, program, options
        self._config, self._features, self._data = rows.config, features[0], data
        self._out, self._work = out, work
        spec = program.spec
        self._held = sorted(hold_back(data.answers))
        kept = [i for i in range(len(self._features.bounds)) if i not in self._held]
        learnt = replace(self._features, bounds=self._features.bounds[kept])
        said = (learnt.tokens[s + first : s + n] for s, n, first in learnt.bounds.tolist())
        most = min(options.words, spec.vocab_size)
        words = choose_words(said, checkpoint.tokenizer.record.eos_ids, spec.vocab_size, most)
        self._batches = StreamBatches(
            learnt,
            features[1].hidden if len(features) > 1 else None,
            count=options.streams,
            tokens=options.tokens,
            places=options.places,
            seed=options.seed,
        )
        self._learner = StreamLearner(
            rows, program, freeze(program, words), self._batches, find_loss(options.loss), options.seed
        )

    def train(self, meter: ProgressMeter) -> StreamReport:
        options, plan = self._options, self._options.settings()
        steps = plan_steps(options.steps, options.hours, plan, self._learner, self._work, meter)
        settings = TrainOptions(steps, learning_rate=options.learning_rate, seed=options.seed)
        trainer = Trainer(self._learner, settings, self._work, plan)
        meter.enter("training", f"training {steps} steps of {self._batches.positions} places")
        meter.expect(steps)
        done = trainer.state.step
        meter.say(f"{done} of {steps} steps are done", done)

        def told(line: Told) -> None:
            nonlocal done
            meter.say(
                f"step {line.step} of {line.steps}, loss {line.loss:.4f}, {line.tokens_per_s:.0f} places/s",
                line.step - done,
            )
            done = line.step

        try:
            trainer.run(told)
        except KeyboardInterrupt:
            self._write(trainer.state.parameters, trainer.state.step, None)
            raise
        meter.enter("proving", "judging the streams on texts that were held back")
        worth = None
        parameters = trainer.state.parameters
        if self._held:
            worth = measure_streams(
                self._learner, self._batches, parameters, self._features, self._held, options.streams
            )
        streams, plotted = self._write(parameters, steps, worth)
        return StreamReport(
            self._out,
            self._config.form,
            steps,
            steps * self._batches.positions,
            streams.parameters,
            streams.parameters / self._size(),
            worth,
            plotted,
        )

    def _size(self) -> int:
        """Numbers that the target has."""
        shape = self._program.weights.shape
        return sum(int(np.prod(shape(value.name))) for value in self._program.graph.weights)

    def _write(
        self, parameters: Tensors, steps: int, worth: StreamWorth | None
    ) -> tuple[StreamCheckpoint, bool]:
        tensors = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
        streams = StreamCheckpoint(self._config, tensors)
        lines = read_log(self._work / LOG_FILE)
        record: dict[str, object] = {
            "target": {"name": self._checkpoint.name, "source": asdict(self._checkpoint.source)},
            "options": self._options.settings(),
            "steps": steps,
            "places_of_a_step": self._batches.positions,
            "passes": round(steps / self._batches.of_a_pass, 2),
            "parameters": streams.parameters,
            "share": streams.parameters / self._size(),
            "data": self._data.provenance,
            "held_back": None if worth is None else asdict(worth),
            "log": lines,
        }
        write_streams(self._out, streams, cast("dict[str, JsonValue]", to_json(record)))
        return streams, plot_losses(lines, self._out / "losses.svg")


def _config(checkpoint: Checkpoint, program: Program, options: StreamTraining) -> StreamConfig:
    """What the streams will be.

    Raises:
        UnsupportedOption: the target has no such streams.
    """
    spec = program.spec
    digest = tokenizer_digest(checkpoint.tokenizer)
    target = DraftTarget(spec.architecture, spec.vocab_size, spec.hidden_size, digest, checkpoint.name)
    parts = tuple(part for part in PARTS if part in options.parts)
    first = options.first(len(spec.blocks))
    try:
        return StreamConfig(options.form, options.streams, first, options.rank, parts, target)
    except ValueError as error:
        raise UnsupportedOption(f"{error}; no streams of {checkpoint.name} are like that") from None


def _stages(options: StreamTraining) -> list[tuple[Stage, float]]:
    """The stages, by about the seconds that they take on two cores for a model of 135M parameters."""
    written = options.answer_tokens / 300 if ANSWERS in options.data else 1.0
    trained = options.hours * 3600 if options.hours is not None else (options.steps or 0) * 3.0
    return [
        ("reading", 2.0),
        ("teaching", written),
        ("reading", options.answer_tokens / 300),
        ("training", trained),
        ("proving", 30.0),
    ]
