"""What every way of asking needs: an engine, prompts, the options of each answer, and an account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import cast

from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.completion import Completion
from edgesdk.decoding.options import GenerationOptions, JsonSchema
from edgesdk.engine.engine import Engine
from edgesdk.engine.generation import Generation
from edgesdk.engine.request_options import RequestOptions
from edgesdk.orchestration.prompt_writer import PromptWriter, WrittenPrompt
from edgesdk.plans.allowance import Allowance
from edgesdk.plans.ask_options import AskOptions
from edgesdk.plans.many_answers import HowAnswered, ItemAnswer

_LOOK_S = 0.05
"""How often the caller is asked whether to stop."""


@dataclass
class Account:
    """What was run.

    Attributes:
        prompt_tokens: of prompts that ran.
        apart: that separate calls for the same text would have run.
        new_tokens: that were chosen.
        list_kept: whether each list was as asked for; None where no list was.
    """

    prompt_tokens: int = 0
    apart: int = 0
    new_tokens: int = 0
    list_kept: bool | None = None


@dataclass(frozen=True)
class Desk:
    """Where the questions of one call are asked.

    Attributes:
        engine: runs the requests.
        writer: writes prompts for its model.
        asking: how to ask.
        answering: how each question is answered.
        allowance: how long it may go on.
        account: what was run.
    """

    engine: Engine
    writer: PromptWriter
    asking: AskOptions
    answering: GenerationOptions
    allowance: Allowance
    account: Account = field(default_factory=Account)

    @property
    def answer_tokens(self) -> int:
        """Most tokens of an answer."""
        return self.answering.max_tokens or 1

    def most_tokens(self, changed: Mapping[str, object]) -> int:
        """Most tokens of an answer, unless a request changes that."""
        most = changed.get("max_tokens")
        return most if isinstance(most, int) else self.answer_tokens

    def prompt(self, text: str, query: str) -> WrittenPrompt:
        """What asks one question."""
        return self.writer.write(self.asking.instruction, text, f"Question: {query}")

    def schema(self, place: int) -> JsonSchema | None:
        """The schema of one answer."""
        if self.asking.json_schemas is not None:
            return self.asking.json_schemas[place]
        return self.answering.json_schema

    def options(self, place: int, **changed: object) -> RequestOptions:
        """The options of one request."""
        answer = replace(self.answering, json_schema=self.schema(place))
        given = {each.name: getattr(answer, each.name) for each in fields(answer)} | changed
        return cast(RequestOptions, given | {"deadline_s": self.allowance.left_s()})

    def wait(self, generation: Generation) -> Completion:
        """Waits for an answer; cancels it as soon as the caller has had enough.

        Raises:
            EdgeError: it failed.
        """
        while not self.allowance.is_cancelled():
            try:
                return generation.result(None if self.asking.cancelled is None else _LOOK_S)
            except TimeoutError:
                continue
        generation.cancel()
        return generation.result()

    def ran(self, generation: Generation, completion: Completion) -> None:
        """Adds a request to the account."""
        metrics = generation.metrics
        self.account.prompt_tokens += metrics.prompt_tokens - metrics.cached_tokens
        self.account.new_tokens += completion.new_tokens

    def item(self, place: int, query: str, completion: Completion, how: HowAnswered) -> ItemAnswer:
        """An answer, with what is wrong with it."""
        text, reason = completion.text.strip(), completion.finish_reason
        value: JsonValue = None
        error = None
        if reason in ("cancelled", "deadline"):
            error = stopped(reason, completion.new_tokens)
        elif self.schema(place) is not None:
            try:
                value = json.loads(text)
            except ValueError:
                error = f"the answer was cut after {completion.new_tokens} tokens and is no JSON document"
        if error is None and not text:
            error = "the answer is empty"
        return ItemAnswer(query, text, value, how, reason, error=error)


def stopped(reason: str, tokens: int) -> str:
    """Why an answer ended before its time."""
    what = "the deadline has passed" if reason == "deadline" else "it was cancelled"
    return f"{what} after {tokens} tokens of the answer"


def failed(query: str, how: HowAnswered, error: str) -> ItemAnswer:
    """An item without an answer."""
    return ItemAnswer(query, "", None, how, error=error)
