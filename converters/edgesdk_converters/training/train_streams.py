"""Trains streams for a target: texts, states of the frozen target, training, a checkpoint for `convert`.

Texts and states are those of `train_draft`, in the same places of a work folder: streams and a draft of one
target can learn from the same answers. Whatever was done is not done again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.records import JsonValue, to_json
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.adapters.peft_adapter import WEIGHTS
from edgesdk_converters.adapters.write_peft import TrainedAdapter, peft_modules, write_peft
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.digests import describe_file
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.drafts.draft_checkpoint import DraftTarget, tokenizer_digest
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter, Report, Stage
from edgesdk_converters.streams.stream_checkpoint import StreamCheckpoint, write_streams
from edgesdk_converters.streams.stream_config import PARTS, StreamConfig
from edgesdk_converters.streams.stream_start import stream_before
from edgesdk_converters.training.check_training import ANSWERS, SAMPLE
from edgesdk_converters.training.choose_words import check_words, choose_words
from edgesdk_converters.training.draft_learner import freeze
from edgesdk_converters.training.features import Features, collect_features, most_read_tokens
from edgesdk_converters.training.frozen_target import FrozenTarget
from edgesdk_converters.training.learning_texts import LearningData, learning_texts, plain_text
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.measure_change import ChangeMeter, ModelChange
from edgesdk_converters.training.measure_streams import StreamWorth, measure_streams
from edgesdk_converters.training.plot_losses import plot_losses
from edgesdk_converters.training.shared_learner import BASE, SharedLearner, low_rank_changes
from edgesdk_converters.training.stream_batches import StreamBatches
from edgesdk_converters.training.stream_learner import StreamLearner, StreamRows, Tensors
from edgesdk_converters.training.stream_training import StreamTraining
from edgesdk_converters.training.texts_by_bundle import READ, read_texts_by_bundle
from edgesdk_converters.training.trainer import LOG_FILE, Trainer, TrainOptions, read_log
from edgesdk_converters.training.work_folder import (
    TrainingTarget,
    hold_back,
    plan_steps,
    program_size,
    run_trainer,
    take_work_folder,
    target_origin,
    tell_tokens,
)

_ADAPTER = "adapter"  # folder beside the streams
_MOST_JUDGED = 16  # windows of the shipped sample


@dataclass(frozen=True)
class StreamReport:
    """What a training made.

    Attributes:
        streams: folder of the checkpoint.
        form: where they begin.
        steps: of training.
        places: learnt from, each time counted.
        parameters: numbers of the streams; those that change the model, of the mode shared, come beside them.
        share: of the target's.
        adapter: folder of the changes of the model; None in the mode lossless.
        worth: on greedy answers that were held back; None where there were none.
        changes: of the model itself, in the mode shared, on answers that were held back and on the shipped
            sample, as far as they were not learnt from.
        plotted: whether the losses were drawn.
    """

    streams: Path
    form: str
    steps: int
    places: int
    parameters: int
    share: float
    worth: StreamWorth | None
    changes: tuple[ModelChange, ...]
    plotted: bool
    adapter: Path | None


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
    program = read_program(checkpoint)
    spec = program.spec
    # Before hours of answers and states, not after them.
    shared = options.mode == "shared"
    config = _config(checkpoint, program, options)
    rows = StreamRows(config, program, options.tokens, options.numbers, whole=shared)
    if shared:
        peft_modules(spec.architecture, list(rows.adapted))
        if (folder := out / _ADAPTER).exists() and not folder.is_dir():
            raise UnsupportedOption(f"{folder} is a file, expected the adapter's folder; move it away")
    check_words(checkpoint.tokenizer.record.eos_ids, spec.vocab_size, min(options.words, spec.vocab_size))
    work = options.work if options.work is not None else out / "work"
    target = take_work_folder(source, revision, checkpoint, program, work)

    meter.enter("teaching", "gathering texts")
    meter.expect(options.answer_tokens)
    data = learning_texts(target, options, tell_tokens(meter, "{} tokens written by the target"))
    meter.enter("reading", "running the target over the texts")
    first = rows.config.first
    meter.expect((2 if first else 1) * sum(len(text.tokens) for text in data.texts))
    features = read_texts_by_bundle(target, data, options.threads, meter)
    starts = _states_before(target, data, first, meter) if first else None
    return _StreamRun(target, options, rows, features, starts, data, out).train(meter)


def _states_before(
    target: TrainingTarget, data: LearningData, first: int, meter: ProgressMeter
) -> NDArray[np.float16]:
    """(N, E) what block `first` reads of all texts, by the evaluator: no bundle gives it."""
    program = target.program
    value = stream_before(program.graph, program.spec, first)
    evaluator = FrozenTarget(program, most_read_tokens(program), value)
    origin = target_origin(target.checkpoint, program)
    say = tell_tokens(meter, READ)
    return collect_features(evaluator, data.texts, target.work / f"states.{first}", origin, say).hidden


class _StreamRun:
    """One training of streams, with what it needs."""

    def __init__(
        self,
        target: TrainingTarget,
        options: StreamTraining,
        rows: StreamRows,
        features: Features,
        starts: NDArray[np.float16] | None,
        data: LearningData,
        out: Path,
    ) -> None:
        self._options, self._config, self._features, self._data = options, rows.config, features, data
        self._checkpoint, self._program = target.checkpoint, target.program
        self._out, self._run = out, target.run_folder("streams")
        program = target.program
        spec = program.spec
        self._held = sorted(hold_back(data.answers))
        kept = [i for i in range(len(self._features.bounds)) if i not in self._held]
        learnt = replace(self._features, bounds=self._features.bounds[kept])
        said = (learnt.tokens[s + first : s + n] for s, n, first in learnt.bounds.tolist())
        most = min(options.words, spec.vocab_size)
        words = choose_words(said, target.checkpoint.tokenizer.record.eos_ids, spec.vocab_size, most)
        self._batches = StreamBatches(
            learnt,
            starts,
            count=options.streams,
            tokens=options.tokens,
            places=options.places,
            seed=options.seed,
        )
        learner = SharedLearner if options.mode == "shared" else StreamLearner
        self._learner = learner(
            rows, program, freeze(program, words), self._batches, find_loss(options.loss), options.seed
        )

    def train(self, meter: ProgressMeter) -> StreamReport:
        options, plan = self._options, self._options.settings()
        steps = plan_steps(options.steps, options.hours, plan, self._learner, self._run, meter)
        settings = TrainOptions(steps, learning_rate=options.learning_rate, seed=options.seed)
        trainer = Trainer(self._learner, settings, self._run, plan)

        def left() -> None:
            self._write(trainer.state.parameters, trainer.state.step, None, ())

        run_trainer(trainer, meter, "places", left)
        meter.enter("proving", "judging the streams on texts that were held back")
        worth = None
        parameters = trainer.state.parameters
        if self._held:
            worth = measure_streams(
                self._learner, self._batches, parameters, self._features, self._held, options.streams
            )
        changes = self._changes(parameters)
        streams, plotted = self._write(parameters, steps, worth, changes)
        return StreamReport(
            self._out,
            self._config.form,
            steps,
            steps * self._batches.positions,
            streams.parameters,
            streams.parameters / program_size(self._program),
            worth,
            changes,
            plotted,
            self._out / _ADAPTER if options.mode == "shared" else None,
        )

    def _changes(self, parameters: Tensors) -> tuple[ModelChange, ...]:
        """What the model has become, where it has learnt."""
        if self._options.mode == "lossless":
            return ()
        judged = {"answers that were held back": [self._data.texts[i] for i in self._held]}
        if SAMPLE not in self._options.data:
            sample, _ = plain_text(self._checkpoint, SAMPLE)
            judged["the shipped sample"] = sample[:: max(1, len(sample) // _MOST_JUDGED)][:_MOST_JUDGED]
        meter = ChangeMeter(self._program, self._checkpoint.tokenizer, self._options.tokens)
        return tuple(meter.measure(parameters, texts, name) for name, texts in judged.items() if texts)

    def _write(
        self,
        parameters: Tensors,
        steps: int,
        worth: StreamWorth | None,
        changes: tuple[ModelChange, ...],
    ) -> tuple[StreamCheckpoint, bool]:
        tensors = {
            name: np.asarray(value, np.float32)
            for name, value in parameters.items()
            if not name.startswith(BASE)
        }
        digest = self._write_adapter(parameters)
        streams = StreamCheckpoint(replace(self._config, adapter=digest), tensors)
        lines = read_log(self._run / LOG_FILE)
        record: dict[str, object] = {
            "target": {"name": self._checkpoint.name, "source": asdict(self._checkpoint.source)},
            "options": self._options.settings(),
            "steps": steps,
            "places_of_a_step": self._batches.positions,
            "passes": round(steps / self._batches.of_a_pass, 2),
            "parameters": streams.parameters,
            "share": streams.parameters / program_size(self._program),
            "data": self._data.provenance,
            "held_back": None if worth is None else asdict(worth),
            "changes": [asdict(change) for change in changes],
            "log": lines,
        }
        write_streams(self._out, streams, cast("dict[str, JsonValue]", to_json(record)))
        return streams, plot_losses(lines, self._out / "losses.svg")

    def _write_adapter(self, parameters: Tensors) -> str | None:
        """Writes what makes the changed model of its target, and gives its digest; None of a frozen one."""
        changes = low_rank_changes(parameters)
        if not changes:
            return None
        folder, rank = self._out / _ADAPTER, self._options.rank
        folder.mkdir(parents=True, exist_ok=True)
        spec = self._program.spec
        arrays = {
            name: (np.asarray(a, np.float32), np.asarray(b, np.float32)) for name, (a, b) in changes.items()
        }
        adapter = TrainedAdapter(rank, float(rank), arrays, {}, spec.tied_head)
        write_peft(folder, adapter, spec.architecture, self._checkpoint.name)
        return describe_file(folder / WEIGHTS).sha256


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
