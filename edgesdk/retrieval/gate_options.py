"""How to answer with sources, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypedDict, get_args

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.option_names import check_names
from edgesdk.decoding.option_types import flag, number, seconds, whole_number, whole_text
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.plans.allowance import check_cancelled
from edgesdk.retrieval.sourced_answer import GateName

MOST_PASSAGES = 100

INSTRUCTION = "Answer the question from these notes alone, in one short sentence."
CITING = (
    "Answer the question in one or two short sentences from the numbered notes alone, and name the number of "
    "each note that you use in brackets, like [1]."
)


@dataclass(frozen=True)
class GateOptions:
    """How to answer with sources.

    Attributes:
        gate: what decides whether to search: `always`, `never`, `logprob` (mean log-probability of the
            model's own first answer), `entropy` (mean entropy of its tokens), `ask` (the model is asked
            whether it knows), `flare` (the least likely token of that answer), `head` (a trained judge).
        judge: file of a trained judge, for `head`.
        threshold: from where on the model is taken to know: least mean log-probability, most entropy in
            nats, least probability for `ask` and `flare`; None for the gate's own.
        rewrite: whether the model also writes queries, of the question and of what its first answer claims.
        filter_claims: whether claims that the gate takes for known are not searched for.
        files: most files that each query brings.
        passages: most passages that the answer is given.
        prompt_tokens: most tokens of the passages together; None for half the context, 3,000 at most.
        max_tokens: most tokens of the answer.
        coarse_tokens: most tokens of the model's own first answer.
        cite: whether passages are numbered and the model is told to name those it uses; small models rather
            talk of numbers then than answer.
        instruction: what the model is told together with the passages; None for one that goes with `cite`.
        deadline_s: seconds for everything; what is not done by then is left out and said.
        cancelled: asked now and then whether to stop.
        template_variables: values of what else the chat template reads.
    """

    gate: GateName = "entropy"
    judge: str | Path | None = None
    threshold: float | None = None
    rewrite: bool = True
    filter_claims: bool = True
    files: int = 10
    passages: int = 20
    prompt_tokens: int | None = None
    max_tokens: int = 128
    coarse_tokens: int = 64
    cite: bool = False
    instruction: str | None = None
    deadline_s: float | None = None
    cancelled: Callable[[], bool] | None = None
    template_variables: Mapping[str, JsonValue] | None = None

    def __post_init__(self) -> None:
        """Refuses values of the wrong type or without meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        gates = get_args(GateName)
        if self.gate not in gates:
            raise UnsupportedOption(f"gate is {quoted(self.gate)}, expected {', '.join(gates)}")
        if (self.gate == "head") != (self.judge is not None):
            raise UnsupportedOption("gate 'head' and the file of a judge go together; give both or neither")
        if self.threshold is not None:
            number("threshold", self.threshold)
            if self.gate in ("always", "never"):
                raise UnsupportedOption(f"gate {self.gate!r} weighs nothing, so it reads no threshold")
        for name in ("rewrite", "filter_claims", "cite"):
            flag(name, getattr(self, name))
        whole_number("files", self.files, 1, MOST_PASSAGES)
        whole_number("passages", self.passages, 1, MOST_PASSAGES)
        for name in ("max_tokens", "coarse_tokens"):
            whole_number(name, getattr(self, name), 1, None)
        if self.prompt_tokens is not None:
            whole_number("prompt_tokens", self.prompt_tokens, 1, None)
        if self.instruction is not None:
            whole_text("instruction", self.instruction)
        if self.deadline_s is not None:
            seconds("deadline_s", self.deadline_s)
        check_cancelled(self.cancelled)

    @property
    def told(self) -> str:
        """What the model is told together with the passages."""
        if self.instruction is not None:
            return self.instruction
        return CITING if self.cite else INSTRUCTION

    @classmethod
    def of(cls, options: Mapping[str, object]) -> GateOptions:
        """Options by their names.

        Raises:
            UnsupportedOption: there is no such option, or it has no meaning.
        """
        check_names(options, [field.name for field in fields(cls)])
        return cls(**options)  # type: ignore[arg-type]


class GateKeywords(TypedDict, total=False):
    """`GateOptions` as keyword arguments."""

    gate: GateName
    judge: str | Path | None
    threshold: float | None
    rewrite: bool
    filter_claims: bool
    files: int
    passages: int
    prompt_tokens: int | None
    max_tokens: int
    coarse_tokens: int
    cite: bool
    instruction: str | None
    deadline_s: float | None
    cancelled: Callable[[], bool] | None
    template_variables: Mapping[str, JsonValue] | None
