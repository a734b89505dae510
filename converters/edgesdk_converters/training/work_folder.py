"""The work folder of a training: whose it is, how many steps it will take, and how far it is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgesdk.bundle.manifest import MANIFEST_NAME
from edgesdk.bundle.records import to_json
from edgesdk.bundle.write_file import write_file
from edgesdk.errors import CheckpointError, UnsupportedOption
from edgesdk_converters.checkpoints.checkpoint import Checkpoint
from edgesdk_converters.convert import convert
from edgesdk_converters.convert_options import ConvertOptions
from edgesdk_converters.drafts.draft_checkpoint import tokenizer_digest
from edgesdk_converters.graph.program import Program
from edgesdk_converters.progress import ProgressMeter
from edgesdk_converters.training.trainer import STATE_FILE, Learner, Told, Trainer, TrainOptions

TARGET_FILE = "target.json"
_PLAN_FILE = "plan.json"
_HELD_BACK = 5  # one greedy answer in so many is judged on, not learnt from


@dataclass(frozen=True)
class TrainingTarget:
    """What a training is for, and the folder that it works in.

    Attributes:
        source: of the checkpoint, for bundles that are made of it.
        revision: of a hub id.
        checkpoint: opened.
        program: the decoder of the checkpoint, before any transform.
        work: the folder.
    """

    source: str
    revision: str | None
    checkpoint: Checkpoint
    program: Program
    work: Path

    def run_folder(self, kind: str) -> Path:
        """Where the state of one kind of training lies; texts and states are for all kinds."""
        folder = self.work / kind
        folder.mkdir(exist_ok=True)
        return folder

    def bundle(self, name: str, *, states: bool = False) -> Path:
        """A bundle made of the checkpoint, in the work folder, unless it is there."""
        folder = self.work / name
        if not (folder / MANIFEST_NAME).is_file():
            options = ConvertOptions(
                targets=("litert",), recipes=("w8-round",), prove=False, embeddings=states
            )
            convert(self.source, folder, options, revision=self.revision)
        return folder


def take_work_folder(
    source: str, revision: str | None, checkpoint: Checkpoint, program: Program, work: Path
) -> TrainingTarget:
    """Makes the work folder of a training, or goes on in it.

    Args:
        source: of the checkpoint.
        revision: of a hub id.
        checkpoint: opened.
        program: of it.
        work: the folder.

    Raises:
        CheckpointError: the folder is another target's, or damaged.
        OSError: it cannot be made.
    """
    work.mkdir(parents=True, exist_ok=True)
    check_target(work / TARGET_FILE, checkpoint.name, target_origin(checkpoint, program))
    return TrainingTarget(source, revision, checkpoint, program, work)


def program_size(program: Program) -> int:
    """Numbers that a model has."""
    shape = program.weights.shape
    return sum(math.prod(shape(value.name)) for value in program.graph.weights)


def run_trainer(trainer: Trainer, meter: ProgressMeter, unit: str, left: Callable[[], object]) -> None:
    """Trains to the end and tells how far it is.

    Args:
        trainer: as far as it is.
        meter: enters the training, and is told of every line of the log.
        unit: what a step learns from, in the plural.
        left: writes what there is, where Ctrl-C ends the training.

    Raises:
        TransformError: the training diverged.
        OSError: the state or the log cannot be written.
        KeyboardInterrupt: after the state and what there is were written.
    """
    steps, done = trainer.steps, trainer.state.step
    meter.enter("training", f"training {steps} steps of {trainer.learner.tokens_of_a_step} {unit}")
    meter.expect(steps)
    meter.say(f"{done} of {steps} steps are done", done)

    def told(line: Told) -> None:
        nonlocal done
        meter.say(
            f"step {line.step} of {line.steps}, loss {line.loss:.4f}, {line.tokens_per_s:.0f} {unit}/s",
            line.step - done,
        )
        done = line.step

    try:
        trainer.run(told)
    except KeyboardInterrupt:
        left()
        raise


def hold_back(answers: frozenset[int]) -> frozenset[int]:
    """Which of the greedy answers are judged on: the last of every five, or the last of two to four."""
    order = sorted(answers)
    if len(order) < _HELD_BACK:
        return frozenset(order[-1:] if len(order) > 1 else ())
    return frozenset(order[_HELD_BACK - 1 :: _HELD_BACK])


def target_origin(checkpoint: Checkpoint, program: Program) -> str:
    """What tells a target from others, those that have its name among them."""
    parts = [
        to_json(program.spec),
        tokenizer_digest(checkpoint.tokenizer),
        sorted(file.sha256 for file in checkpoint.source.files),
    ]
    return f"{checkpoint.name} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"


def check_target(path: Path, name: str, origin: str) -> None:
    """Notes whose a work folder is; refuses one of another target, whose answers and states are not its.

    Raises:
        CheckpointError: it is of another, or damaged.
    """
    if not path.exists():
        write_file(path, json.dumps({"target": origin}) + "\n")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["target"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); give another work folder") from None
    if before != origin:
        raise CheckpointError(
            f"{path.parent} is of another target than this {name}: its weights, its shape or its tokenizer "
            "differ; give another work folder"
        )


def plan_steps(
    steps: int | None,
    hours: float | None,
    settings: Mapping[str, object],
    learner: Learner,
    work: Path,
    meter: ProgressMeter,
) -> int:
    """Steps to make; hours are turned into steps once, and stay what they were when a run goes on.

    Args:
        steps: that were asked for; None where hours were.
        hours: of training.
        settings: of the run.
        learner: what is trained.
        work: folder of the run.
        meter: told that steps are timed.

    Raises:
        CheckpointError: the plan is damaged.
        UnsupportedOption: the folder holds a run of steps, not of hours.
    """
    if steps is not None:
        return steps
    plan, begun = work / _PLAN_FILE, (work / STATE_FILE).exists()
    if plan.exists():
        planned, planned_for = _read_plan(plan)
        # A run that has begun refuses other options by name.
        if begun or planned_for == settings:
            return planned
    elif begun:
        raise UnsupportedOption(
            f"{work} holds a run of --steps, not of --hours; give the same options to go on, or "
            "another work folder"
        )
    assert hours is not None
    meter.say("timing a few steps", 0)
    trial = Trainer(learner, TrainOptions(1000), work, settings)
    found = max(1, int(hours * 3600 / trial.seconds_a_step()))
    write_file(plan, json.dumps({"steps": found, "settings": dict(settings)}) + "\n")
    return found


def _read_plan(path: Path) -> tuple[int, object]:
    """Steps that were planned, and for which settings.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        steps = int(plan["steps"])
        if steps < 1:
            raise ValueError(f"{steps} steps")
        return steps, plan.get("settings")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); remove it to begin again") from None


def tell_tokens(meter: ProgressMeter, line: str) -> Callable[[int], None]:
    """Says how many tokens are done, each time that a number comes."""
    done = 0

    def tell(tokens: int) -> None:
        nonlocal done
        meter.say(line.format(tokens), tokens - done)
        done = tokens

    return tell
