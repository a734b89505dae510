"""How to train an adapter, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import UnsupportedOption
from edgesdk_converters.training.check_training import SAMPLE, check_counts, check_data, check_length


@dataclass(frozen=True)
class AdapterTraining:
    """Options of a training.

    Attributes:
        data: UTF-8 text files, or `sample` for the shipped calibration sample.
        hours: of training; None where `steps` is given.
        steps: of training; None to fill `hours`.
        rank: r of every product.
        alpha: what a trained B A is multiplied by is alpha / rank.
        layers: which blocks learn; None for all.
        tables: whether embedding table and head learn as well, as a whole.
        windows: of 256 tokens, of a step.
        learning_rate: the highest.
        seed: of draws and first parameters.
        work: folder for the run's state; None for `work` in the adapter's folder.
    """

    data: tuple[str, ...]
    hours: float | None = 1.0
    steps: int | None = None
    rank: int = 8
    alpha: float = 32.0
    layers: tuple[int, ...] | None = None
    tables: bool = False
    windows: int = 4
    learning_rate: float = 5e-4
    seed: int = 0
    work: Path | None = None

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        check_length(self.hours, self.steps)
        check_counts(self, ("steps", "rank", "windows"))
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise UnsupportedOption(f"alpha is {self.alpha}, expected a number above 0")
        check_data(self.data, f"text files or {SAMPLE}")

    def settings(self) -> dict[str, object]:
        """What must be the same for a run to go on; the learning rate and the seed are the trainer's."""
        names = ("hours", "rank", "alpha", "tables", "windows")
        layers = None if self.layers is None else list(self.layers)
        return {**{name: getattr(self, name) for name in names}, "layers": layers, "data": list(self.data)}
