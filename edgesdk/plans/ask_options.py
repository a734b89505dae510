"""How to ask many questions about one text, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import cast, get_args

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.option_names import check_names
from edgesdk.decoding.option_types import seconds, whole_number, whole_text
from edgesdk.decoding.options import GenerationKeywords, GenerationOptions, JsonSchema
from edgesdk.errors import UnsupportedOption, quoted
from edgesdk.plans.allowance import check_cancelled
from edgesdk.plans.many_answers import AskMode

MOST_QUERIES = 256
"""More than anybody asks of one text; each is a request of its own."""

NOT_SAID = "not said"
"""What the default instruction has the model answer where the text does not."""

INSTRUCTION = (
    f"Answer from the text alone, in one short sentence. If the text does not say it, answer: {NOT_SAID}"
)

Merge = Callable[[int, Sequence[str]], str]
"""Makes one answer of those to several parts of a text: given the question's place and the answers."""

_ANSWER_TOKENS = 96


@dataclass(frozen=True)
class AskOptions:
    """How to ask.

    Attributes:
        mode: `fork` runs the text once and has the answers share its cells: the same answers as separate
            calls. `paper` puts all questions into one plain prompt that asks for a JSON list. `constrained`
            does so, too, and a grammar makes it a list of as many items. `single` makes separate calls.
        instruction: what the model is told first.
        json_schemas: a JSON Schema for each answer, None for free text; they take the place of `json_schema`,
            which goes for all.
        retry_tokens: most tokens of an answer that is asked for again, alone; None for twice `max_tokens`.
        overlap_tokens: tokens that neighbouring parts of a long text have in common.
        merge: makes one answer of those to the parts of a long text; None asks the model to.
        deadline_s: seconds for everything; what is not answered by then says so.
        cancelled: asked now and then whether to stop; what is not answered by then says so.
        template_variables: values of what else the chat template reads, such as `enable_thinking`.
    """

    mode: AskMode = "fork"
    instruction: str = INSTRUCTION
    json_schemas: Sequence[JsonSchema | None] | None = None
    retry_tokens: int | None = None
    overlap_tokens: int = 64
    merge: Merge | None = None
    deadline_s: float | None = None
    cancelled: Callable[[], bool] | None = None
    template_variables: Mapping[str, JsonValue] | None = None

    def __post_init__(self) -> None:
        """Refuses what has no meaning.

        Raises:
            UnsupportedOption: naming the option.
        """
        modes = get_args(AskMode)
        if self.mode not in modes:
            raise UnsupportedOption(f"mode is {quoted(self.mode)}, expected one of {', '.join(modes)}")
        whole_text("instruction", self.instruction)
        if self.json_schemas is not None:
            if isinstance(self.json_schemas, str | Mapping) or not isinstance(self.json_schemas, Sequence):
                found = quoted(self.json_schemas)
                raise UnsupportedOption(f"json_schemas is {found}, expected a list, one schema a question")
            object.__setattr__(self, "json_schemas", tuple(self.json_schemas))
        if self.retry_tokens is not None:
            object.__setattr__(self, "retry_tokens", whole_number("retry_tokens", self.retry_tokens, 1))
        object.__setattr__(self, "overlap_tokens", whole_number("overlap_tokens", self.overlap_tokens, 0))
        if self.merge is not None and not callable(self.merge):
            raise UnsupportedOption(f"merge is {quoted(self.merge)}, expected a function")
        if seconds("deadline_s", self.deadline_s) == 0:
            raise UnsupportedOption("deadline_s is 0, expected seconds above 0")
        check_cancelled(self.cancelled)


class AskKeywords(GenerationKeywords, total=False):
    """The fields of `AskOptions` and of `GenerationOptions`, as keywords of `ask_many`; see there."""

    mode: AskMode
    instruction: str
    json_schemas: Sequence[JsonSchema | None] | None
    retry_tokens: int | None
    overlap_tokens: int
    merge: Merge | None
    deadline_s: float | None
    cancelled: Callable[[], bool] | None
    template_variables: Mapping[str, JsonValue] | None


def split_ask_keywords(keywords: Mapping[str, object]) -> tuple[AskOptions, GenerationOptions]:
    """How to ask, and how each question is answered, of what a caller wrote.

    Raises:
        UnsupportedOption: there is no such option, or one has no meaning.
    """
    own = {field.name for field in fields(AskOptions)}
    check_names(keywords, [*own, *(field.name for field in fields(GenerationOptions))])
    asking = AskOptions(**cast(AskKeywords, {k: v for k, v in keywords.items() if k in own}))  # type: ignore[misc]
    answering = {"max_tokens": _ANSWER_TOKENS} | {k: v for k, v in keywords.items() if k not in own}
    if answering["max_tokens"] is None:
        raise UnsupportedOption("max_tokens is None, expected a number: the most tokens of each answer")
    return asking, GenerationOptions.of(answering)


def check_queries(queries: object, asking: AskOptions) -> tuple[str, ...]:
    """The questions as plain texts.

    Raises:
        UnsupportedOption: they are no list of texts, there are none or too many, or one is empty, or there
            are not as many schemas.
    """
    if isinstance(queries, str | bytes | Mapping) or not isinstance(queries, Sequence):
        raise UnsupportedOption(f"queries is {quoted(queries)}, expected a list of questions")
    if not 1 <= len(queries) <= MOST_QUERIES:
        raise UnsupportedOption(f"there are {len(queries)} queries, expected 1 to {MOST_QUERIES}")
    texts = tuple(whole_text("a query", query) for query in queries)
    for place, text in enumerate(texts):
        if not text.strip():
            raise UnsupportedOption(f"query {place + 1} is empty, expected a question")
    if asking.json_schemas is not None and len(asking.json_schemas) != len(texts):
        raise UnsupportedOption(
            f"there are {len(asking.json_schemas)} json_schemas for {len(texts)} queries, expected one each"
        )
    return texts
