"""What a caller may ask of an answer, and how it joins what a bundle recommends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgesdk.bundle.manifest import GenerationDefaults
from edgesdk.decoding.sampling import SamplingOptions

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class GenerationOptions:
    """How to answer.

    A sampling option that is None takes what the bundle recommends; where that says nothing, the
    value that changes nothing (for the temperature 0, which is greedy).

    Attributes:
        max_tokens: most tokens to generate; None for as many as the context holds.
        temperature: 0 always takes the most likely token; above, logits are divided by it.
        top_k: choose among this many of the most likely tokens; 0 among all.
        top_p: choose among the fewest tokens whose probabilities reach this sum; 1 among all.
        min_p: never choose tokens less likely than this share of the most likely one.
        repetition_penalty: above 1 makes tokens already in the sequence less likely.
        seed: makes sampling repeatable.
        stop: texts that end the answer and are no part of it.
        ignore_eos: go on after end tokens; for measurements.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()
    ignore_eos: bool = False

    def sampling(self, defaults: GenerationDefaults) -> SamplingOptions:
        """These options over a bundle's recommendations.

        Raises:
            UnsupportedOption: a value has no meaning.
        """
        return SamplingOptions(
            temperature=_first(self.temperature, defaults.temperature, 0.0),
            top_k=_first(self.top_k, defaults.top_k, 0) or None,
            top_p=_first(self.top_p, defaults.top_p, 1.0),
            min_p=_first(self.min_p, None, 0.0),
            repetition_penalty=_first(self.repetition_penalty, defaults.repetition_penalty, 1.0),
            seed=self.seed,
        )


def _first(asked: Number | None, recommended: Number | None, neutral: Number) -> Number:
    if asked is not None:
        return asked
    return neutral if recommended is None else recommended
