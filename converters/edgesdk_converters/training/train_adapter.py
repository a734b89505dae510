"""Trains an adapter of low rank on texts, and where asked for the tables, too: language-adaptive training.

What comes out is a folder as PEFT saves it: `convert --merge-adapter` makes it part of a checkpoint,
`convert --adapter` puts it beside one. A run that was ended goes on where it was.

Paper: the tuning of vocabulary adaptation (LAPT; PAPERS.md, section 8) is this with tables, rank 8, alpha 32.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.records import to_json
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.adapters.peft_adapter import TRAINING
from edgesdk_converters.adapters.write_peft import TrainedAdapter, peft_modules, write_peft
from edgesdk_converters.architectures.read_program import read_program
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.checkpoints.open_checkpoint import open_checkpoint
from edgesdk_converters.graph.low_rank_term import INNER, WRITTEN
from edgesdk_converters.progress import ProgressMeter, Report, Stage
from edgesdk_converters.training.adapter_learner import TABLES, AdapterLearner, Parameters
from edgesdk_converters.training.adapter_training import AdapterTraining
from edgesdk_converters.training.learning_texts import Provenance, plain_text
from edgesdk_converters.training.plot_losses import plot_losses
from edgesdk_converters.training.trainer import LOG_FILE, Trainer, TrainOptions, read_log
from edgesdk_converters.training.work_folder import (
    TrainingTarget,
    plan_steps,
    program_size,
    run_trainer,
    take_work_folder,
)
from edgesdk_converters.vocabulary.tokenizer_data import TokenizerData

_HELD_BACK = 10  # one window in so many is judged on, not learnt from
_MOST_JUDGED = 64


@dataclass(frozen=True)
class AdapterReport:
    """What a training made.

    Attributes:
        adapter: its folder.
        steps: of training.
        tokens: learnt from, each time counted.
        passes: how often every text was read.
        trained: numbers that learnt.
        share: of all numbers of the model.
        held_back: windows that it was judged on.
        bits_before: bits for each byte of their text, of the model as it is.
        bits_after: with the adapter.
    """

    adapter: Path
    steps: int
    tokens: int
    passes: float
    trained: int
    share: float
    held_back: int
    bits_before: float
    bits_after: float


def train_adapter(
    source: str,
    out: Path,
    options: AdapterTraining,
    *,
    revision: str | None = None,
    report: Report | None = None,
) -> AdapterReport:
    """Trains an adapter and writes it.

    Args:
        source: the model: a Hugging Face directory, a `.gguf` file, a hub id, or a named model.
        out: folder for the adapter.
        options: what and on what.
        revision: commit, branch or tag of a hub id.
        report: told how far it is.

    Raises:
        CheckpointError: the model or what is in the work folder cannot be read, or belongs to another run, or
            its files hold weights in a form that no adapter is written for.
        TransformError: the training diverged.
        UnsupportedOption: the options do not suit the model, or there is too little text.
        OSError: a file cannot be written; what stood there before does still.
        KeyboardInterrupt: after state and adapter were written as far as they were.
    """
    meter = ProgressMeter(report, _stages(options))
    meter.enter("reading", f"reading {source}")
    checkpoint = open_checkpoint(source, revision=revision)
    program = read_program(checkpoint)
    learnt, judged, provenance = _texts(checkpoint, options)
    learner = AdapterLearner(
        program,
        learnt,
        rank=options.rank,
        scale=options.alpha / options.rank,
        layers=options.layers,
        tables=options.tables,
        of_a_step=options.windows,
        seed=options.seed,
    )
    tables = [name for name in TABLES if options.tables and name in program.weights]
    # Before hours of training, not after them.
    peft_modules(program.spec.architecture, [*learner.products, *tables])
    work = options.work if options.work is not None else out / "work"
    target = take_work_folder(source, revision, checkpoint, program, work)
    return _AdapterRun(target, options, learner, judged, provenance, out).train(meter)


class _AdapterRun:
    """One training of one adapter, with what it needs."""

    def __init__(
        self,
        target: TrainingTarget,
        options: AdapterTraining,
        learner: AdapterLearner,
        judged: NDArray[np.int32],
        provenance: list[Provenance],
        out: Path,
    ) -> None:
        self._checkpoint, self._program = target.checkpoint, target.program
        self._run = target.run_folder("adapter")
        self._options, self._learner, self._judged = options, learner, judged
        self._provenance, self._out = provenance, out

    def train(self, meter: ProgressMeter) -> AdapterReport:
        options, learner = self._options, self._learner
        settings = options.settings()
        steps = plan_steps(options.steps, options.hours, settings, learner, self._run, meter)
        made = TrainOptions(steps, learning_rate=options.learning_rate, seed=options.seed)
        trainer = Trainer(learner, made, self._run, settings)
        before = self._bits(learner.start())
        meter.say(f"{before:.3f} bits a byte before", 0)

        def left() -> None:
            self._write(trainer.state.parameters, None)

        run_trainer(trainer, meter, "tokens", left)
        meter.enter("proving", "judging the adapter on text that was held back")
        parameters = trainer.state.parameters
        trained = sum(int(np.prod(each.shape)) for each in parameters.values())
        report = AdapterReport(
            adapter=self._out,
            steps=steps,
            tokens=steps * learner.tokens_of_a_step,
            passes=round(steps / learner.of_a_pass, 2),
            trained=trained,
            share=trained / program_size(self._program),
            held_back=len(self._judged),
            bits_before=before,
            bits_after=self._bits(parameters),
        )
        self._write(parameters, report)
        return report

    def _bits(self, parameters: Parameters) -> float:
        """Bits for each byte of the text that was held back."""
        engine = TokenizerData(self._checkpoint.tokenizer.tokenizer_json).engine
        size = sum(len(engine.decode(window[1:].tolist()).encode()) for window in self._judged)
        return self._learner.score(parameters, self._judged) / math.log(2) / max(size, 1)

    def _write(self, parameters: Parameters, report: AdapterReport | None) -> None:
        arrays = {name: np.asarray(value, np.float32) for name, value in parameters.items()}
        adapter = TrainedAdapter(
            self._options.rank,
            self._options.alpha,
            {name: (arrays[name + INNER], arrays[name + WRITTEN]) for name in self._learner.products},
            {name: arrays[name] for name in TABLES if name in arrays},
            self._program.spec.tied_head,
        )
        write_peft(self._out, adapter, self._program.spec.architecture, self._checkpoint.name)
        lines = read_log(self._run / LOG_FILE)
        record = {
            "target": {
                "name": self._checkpoint.name,
                "source": self._checkpoint.source,
                "vocab_size": self._program.spec.vocab_size,
            },
            "options": self._options.settings(),
            "data": self._provenance,
            "report": None if report is None else {**vars(report), "adapter": self._out.name},
            "log": lines,
        }
        write_file(self._out / TRAINING, json.dumps(to_json(record), indent=1) + "\n")
        plot_losses(lines, self._out / "losses.svg")


def _texts(
    checkpoint: Checkpoint, options: AdapterTraining
) -> tuple[NDArray[np.int32], NDArray[np.int32], list[Provenance]]:
    """Windows to learn from, some that are held back, and where they come from.

    Raises:
        UnsupportedOption: there are too few.
    """
    windows: list[NDArray[np.int32]] = []
    provenance = []
    for item in options.data:
        found, record = plain_text(checkpoint, item)
        windows += [text.tokens for text in found]
        provenance.append(record)
    if len(windows) < 2:
        raise UnsupportedOption(
            f"the texts give {len(windows)} window of 256 tokens, expected at least 2: one to learn from and "
            "one to judge on"
        )
    held = range(min(_HELD_BACK, len(windows)) - 1, len(windows), _HELD_BACK)
    judged = np.stack([windows[i] for i in held])[:_MOST_JUDGED]
    learnt = np.stack([window for i, window in enumerate(windows) if i not in held])
    return learnt, judged, provenance


def _stages(options: AdapterTraining) -> list[tuple[Stage, float]]:
    """The stages, by about the seconds that they take on two cores for a model of 135M parameters."""
    trained = options.hours * 3600 if options.hours is not None else (options.steps or 0) * 6.0
    return [("reading", 5.0), ("training", trained), ("proving", 30.0)]
