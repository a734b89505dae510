"""How streams are trained: the options, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgesdk.bundle.stack_record import MOST_STREAMS
from edgesdk.errors import UnsupportedOption
from edgesdk_converters.streams.stream_config import PARTS, StreamForm
from edgesdk_converters.training.check_training import ANSWERS, SAMPLE, check_counts, check_data, check_length
from edgesdk_converters.training.losses import find_loss
from edgesdk_converters.training.products import Numbers

StreamMode = Literal["lossless", "shared"]
"""`lossless`: the model is frozen, and its own rows stay what they are; `shared`: it learns, too."""


@dataclass(frozen=True)
class StreamTraining:
    """What to train, and on what.

    Attributes:
        mode: whether the model itself learns.
        form: where streams begin (`streams.stream_config`).
        streams: G, tokens ahead of the model's own.
        layers: blocks that streams run through, the top ones; None for all in the form masks and for a third
            in the form streams.
        rank: of the low-rank parts.
        parts: products of each block that have them.
        loss: a name from `losses.LOSSES`.
        hours: of training, after the texts are there; None where `steps` is given.
        steps: of training; None to fill `hours`.
        data: `answers`, `sample`, or UTF-8 text files, several together.
        answer_tokens: how many the target writes.
        seed: of instructions, draws and first parameters.
        words: V', how many tokens are learnt to be said.
        tokens: of texts, of a step.
        places: of a step, each with all streams.
        learning_rate: the highest.
        teacher: bundle of the target that writes the answers; None to convert the target to `w8-round`.
        work: folder for answers, states and the run; None for `work` in the streams' folder.
        threads: of the teacher.
        numbers: of the factors of products: bfloat16 is faster where the processor has it.
    """

    mode: StreamMode = "lossless"
    form: StreamForm = "masks"
    streams: int = 2
    layers: int | None = None
    rank: int = 32
    parts: tuple[str, ...] = ("q", "o", "down")
    loss: str = "kld"
    hours: float | None = 1.0
    steps: int | None = None
    data: tuple[str, ...] = (ANSWERS,)
    answer_tokens: int = 400_000
    seed: int = 0
    words: int = 8192
    tokens: int = 320
    places: int = 64
    learning_rate: float = 1e-3
    teacher: Path | None = None
    work: Path | None = None
    threads: int | None = None
    numbers: Numbers = "float32"

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        if self.mode not in get_args(StreamMode):
            raise UnsupportedOption(
                f"mode is {self.mode!r}, expected one of {', '.join(get_args(StreamMode))}"
            )
        if self.form not in get_args(StreamForm):
            raise UnsupportedOption(
                f"form is {self.form!r}, expected one of {', '.join(get_args(StreamForm))}"
            )
        find_loss(self.loss)
        check_length(self.hours, self.steps)
        if not 1 <= self.streams <= MOST_STREAMS:
            raise UnsupportedOption(f"streams is {self.streams}, expected 1 to {MOST_STREAMS}")
        check_counts(
            self, ("layers", "rank", "steps", "answer_tokens", "words", "tokens", "places", "threads")
        )
        if self.form == "masks" and self.layers is not None:
            raise UnsupportedOption("in the form masks streams run in all layers; leave the layers out")
        odd = [part for part in self.parts if part not in PARTS]
        if odd or not self.parts:
            raise UnsupportedOption(
                f"parts are {', '.join(self.parts)[:80] or 'none'}, expected some of {', '.join(PARTS)}"
            )
        check_data(self.data, f"{ANSWERS}, {SAMPLE} or text files")

    def first(self, blocks: int) -> int:
        """Place of the first block that runs streams, of so many.

        Raises:
            UnsupportedOption: there are not as many layers.
        """
        if self.form == "masks":
            return 0
        layers = max(1, blocks // 3) if self.layers is None else self.layers
        if layers >= blocks:
            raise UnsupportedOption(
                f"streams are to run in {layers} layers, expected 1 to {blocks - 1} of the model's {blocks}; "
                "in all of them they are the form masks"
            )
        return blocks - layers

    def settings(self) -> dict[str, object]:
        """What must be the same for a run to go on."""
        names = (
            "mode",
            "form",
            "streams",
            "layers",
            "rank",
            "loss",
            "hours",
            "seed",
            "words",
            "tokens",
            "places",
            "answer_tokens",
            "numbers",
        )
        lists = {"parts": list(self.parts), "data": list(self.data)}
        return {**{name: getattr(self, name) for name in names}, **lists}
