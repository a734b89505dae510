"""How a draft is trained: the options, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesdk_converters.training.check_training import ANSWERS, SAMPLE, check_counts, check_data, check_length
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.products import Numbers


@dataclass(frozen=True)
class DraftTraining:
    """What to train, and on what.

    Attributes:
        loss: a name from `losses.LOSSES`.
        hours: of training, after the texts are there; None where `steps` is given.
        steps: of training; None to fill `hours`.
        data: `answers`, `sample`, or UTF-8 text files, several together.
        answer_tokens: how many the target writes.
        seed: of instructions, draws and first parameters.
        width: F of the draft.
        layers: of the draft.
        words: V', how many tokens it can say.
        depth: how many tokens ahead it learns.
        windows: of 32 positions, of a step.
        learning_rate: the highest.
        teacher: bundle of the target that writes the answers; None to convert the target to `w8-round`.
        work: folder for answers, states and the run; None for `work` in the draft's folder.
        threads: of the teacher.
        numbers: of the factors of products: bfloat16 is faster where the processor has it.
    """

    loss: str = "kld-tvd++"
    hours: float | None = 1.0
    steps: int | None = None
    data: tuple[str, ...] = (ANSWERS,)
    answer_tokens: int = 400_000
    seed: int = 0
    width: int = 1024
    layers: int = 1
    words: int = 8192
    depth: int = 4
    windows: int = 16
    learning_rate: float = 2e-3
    teacher: Path | None = None
    work: Path | None = None
    threads: int | None = None
    numbers: Numbers = "float32"

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        find_loss(self.loss)
        check_length(self.hours, self.steps)
        check_counts(
            self, ("steps", "answer_tokens", "width", "layers", "words", "depth", "windows", "threads")
        )
        check_data(self.data, f"{ANSWERS}, {SAMPLE} or text files")

    def settings(self) -> dict[str, object]:
        """What must be the same for a run to go on."""
        names = (
            "loss",
            "hours",
            "seed",
            "width",
            "layers",
            "words",
            "depth",
            "windows",
            "answer_tokens",
            "numbers",
        )
        return {**{name: getattr(self, name) for name in names}, "data": list(self.data)}
