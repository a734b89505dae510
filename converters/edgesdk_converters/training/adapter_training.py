"""How to train an adapter, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import UnsupportedOption

SAMPLE = "sample"


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
        if (self.hours is None) == (self.steps is None):
            raise UnsupportedOption("give the hours to train or the steps, one of the two")
        if self.hours is not None and not (0 < self.hours <= 1000 and math.isfinite(self.hours)):
            raise UnsupportedOption(f"hours is {self.hours}, expected more than 0 and at most 1000")
        for name in ("steps", "rank", "windows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UnsupportedOption(f"{name} is {value}, expected at least 1")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise UnsupportedOption(f"alpha is {self.alpha}, expected a number above 0")
        if not self.data:
            raise UnsupportedOption(f"data is empty, expected text files or {SAMPLE}")
        twice = [item for item in self.data if self.data.count(item) > 1]
        if twice:  # what is held back of one would be learnt from the other
            raise UnsupportedOption(f"data names {twice[0][:200]!r} twice, expected it once")

    def settings(self) -> dict[str, object]:
        """What must be the same for a run to go on; the learning rate and the seed are the trainer's."""
        names = ("hours", "rank", "alpha", "tables", "windows")
        layers = None if self.layers is None else list(self.layers)
        return {**{name: getattr(self, name) for name in names}, "layers": layers, "data": list(self.data)}
