"""The loop that trains: what is learnt, by which loss and from which data is a `Learner`'s business.

Everything of a step follows from the seed and the number of the step, so that a run which was killed goes on
from its last state and ends with the same bits. Ctrl-C writes the state before it ends the run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax

from edgesdk.bundle.write_file import write_file
from edgesdk.errors import TransformError, UnsupportedOption
from edgesdk_converters.training.run_state import RunState, Tree, load_run, save_run

Array: TypeAlias = jax.Array
Figures: TypeAlias = Mapping[str, float]

STATE_FILE = "run.safetensors"
LOG_FILE = "log.jsonl"
_TIMED_STEPS = 12


class Learner(Protocol):
    """What is trained."""

    @property
    def tokens_of_a_step(self) -> int:
        """Positions that one step learns from."""

    def start(self) -> Tree:
        """Parameters to begin with."""

    def batch(self, step: int) -> Tree:
        """What a step learns from, as arrays: a function of the step alone."""

    def loss(self, parameters: Tree, batch: Tree, key: Array, progress: Array) -> tuple[Array, Tree]:
        """A number to be made small, and figures to be logged by name; traced by jax."""


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        steps: how many.
        learning_rate: the highest; AdamW with a warm-up, then a cosine down to a twentieth of it.
        warmup: share of the steps.
        weight_decay: of AdamW.
        clip: most norm of a gradient.
        seed: of all draws.
        save_every_s: seconds between two writings of the state.
        log_every: steps between two lines of the log.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    save_every_s: float = 60.0
    log_every: int = 20

    def __post_init__(self) -> None:
        """Refuses numbers without meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        for name, good in (
            ("steps", self.steps >= 1),
            ("learning_rate", 0 < self.learning_rate < 1),
            ("warmup", 0 <= self.warmup < 1),
            ("weight_decay", 0 <= self.weight_decay < 1),
            ("clip", self.clip > 0),
            ("seed", 0 <= self.seed < 1 << 31),
            ("log_every", self.log_every >= 1),
        ):
            if not good:
                raise UnsupportedOption(f"{name} is {getattr(self, name)}, which has no meaning for training")


@dataclass(frozen=True)
class Told:
    """How far a training is.

    Attributes:
        step: steps done.
        steps: of all.
        loss: mean since the last line.
        tokens_per_s: learnt from, since the last line.
    """

    step: int
    steps: int
    loss: float
    tokens_per_s: float


class Trainer:
    """Trains one learner in one folder.

    Attributes:
        learner: what is trained.
        steps: of all.
        state: as far as it is.
    """

    def __init__(
        self, learner: Learner, options: TrainOptions, folder: Path, settings: Mapping[str, object]
    ) -> None:
        """Begins, or goes on with what the folder holds.

        Args:
            learner: what is trained.
            options: how.
            folder: for the state and the log; it is there.
            settings: of the learner: what must be the same for a run to go on.

        Raises:
            CheckpointError: the folder holds another run.
        """
        self.learner, self.steps = learner, options.steps
        self._options, self._folder = options, folder
        fixed = {
            key: value for key, value in asdict(options).items() if key not in ("save_every_s", "log_every")
        }
        self._settings = {**settings, **fixed}
        self._optimiser = _optimiser(options)
        parameters = learner.start()
        self.state = RunState(0, parameters, self._optimiser.init(parameters))
        if (folder / STATE_FILE).exists():
            self.state = load_run(folder / STATE_FILE, self.state, self._settings)
        self._step = jax.jit(self._advance)

    def run(self, told: Callable[[Told], None] = lambda _: None) -> Tree:
        """Trains to the end and returns the parameters.

        Raises:
            TransformError: the loss is not finite.
            OSError: the state or the log cannot be written; the last state that was stays.
            KeyboardInterrupt: after the state was written.
        """
        log = _Log(self._folder / LOG_FILE, self.state.step)
        saved = last = time.monotonic()
        losses: list[Tree] = []
        try:
            while self.state.step < self.steps:
                self.state, figures = self.after(self.state, self.learner.batch(self.state.step))
                losses.append(figures)
                if self.state.step % self._options.log_every == 0 or self.state.step == self.steps:
                    line = self._mean(losses)
                    moment = time.monotonic()
                    # A coarse clock may stand still meanwhile.
                    speed = len(losses) * self.learner.tokens_of_a_step / max(moment - last, 1e-3)
                    log.add({"step": self.state.step, **line, "tokens_per_s": round(speed, 1)})
                    told(Told(self.state.step, self.steps, line["loss"], speed))
                    losses, last = [], moment
                    if moment - saved > self._options.save_every_s:
                        self.save()
                        saved = moment
        except KeyboardInterrupt:
            self.save()
            raise
        self.save()
        return self.state.parameters

    def seconds_a_step(self) -> float:
        """How long a step takes here, by a few that are thrown away."""

        def step(number: int) -> None:
            _, figures = self.after(self.state, self.learner.batch(number))
            float(figures["loss"])  # waits

        step(0)  # compiles
        begun = time.perf_counter()
        for number in range(_TIMED_STEPS):
            step(number)
        return (time.perf_counter() - begun) / _TIMED_STEPS

    def after(self, state: RunState, batch: Tree) -> tuple[RunState, Tree]:
        """The state after one more step, and what was logged of it; nothing is kept here."""
        parameters, optimiser, figures = self._step(state.step, state.parameters, state.optimiser, batch)
        return RunState(state.step + 1, parameters, optimiser), figures

    def save(self) -> None:
        """Writes the state."""
        save_run(self._folder / STATE_FILE, self.state, self._settings)

    def _advance(
        self, step: Array, parameters: Tree, optimiser: Tree, batch: Tree
    ) -> tuple[Tree, Tree, Tree]:
        key = jax.random.fold_in(jax.random.key(self._options.seed), step)
        progress = jnp.asarray(step, jnp.float32) / self.steps
        value_and_grad = jax.value_and_grad(self.learner.loss, has_aux=True)
        (loss, figures), gradients = value_and_grad(parameters, batch, key, progress)
        updates, optimiser = self._optimiser.update(gradients, optimiser, parameters)
        return optax.apply_updates(parameters, updates), optimiser, {"loss": loss, **figures}

    def _mean(self, losses: list[Tree]) -> dict[str, float]:
        names = losses[0]
        line = {name: float(jnp.stack([each[name] for each in losses]).mean()) for name in names}
        if not all(value - value == 0 for value in line.values()):  # neither infinite nor NaN
            raise TransformError(
                f"the loss is not finite at step {self.state.step}; begin again with a smaller learning rate"
            )
        return {name: round(value, 5) for name, value in line.items()}


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log up to one that was half written, or is none."""
    lines: list[dict[str, float]] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(found, dict) or any(type(each) not in (int, float) for each in found.values()):
            break
        lines.append(found)
    return lines


def learning_rates(options: TrainOptions) -> optax.Schedule:
    """By step: a warm-up, then a cosine down to a twentieth of the highest."""
    warmup = max(1, int(options.warmup * options.steps))
    return optax.warmup_cosine_decay_schedule(
        0.0, options.learning_rate, warmup, max(options.steps, warmup + 1), options.learning_rate / 20
    )


def _optimiser(options: TrainOptions) -> optax.GradientTransformation:
    adamw = optax.adamw(learning_rates(options), weight_decay=options.weight_decay)
    return optax.chain(optax.clip_by_global_norm(options.clip), adamw)


class _Log:
    """A JSON line for every few steps; lines after the state that a run goes on from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [line for line in read_log(path) if line.get("step", 0) <= step]
        write_file(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path = path

    def add(self, line: Mapping[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
