"""Answers of a conversation with tools: the grammar that makes a call certain, and the calls in the end.

It joins what `edgesdk.text.tool_calls` knows of the forms of calls to grammars and completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.json_schema import grammar_schema
from edgesdk.decoding.options import GenerationOptions
from edgesdk.errors import ToolCallError, UnsupportedOption
from edgesdk.text.call_format import call_format
from edgesdk.text.call_grammar import call_grammar
from edgesdk.text.thoughts import open_thought
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.text.tool_calls import parse_tool_calls
from edgesdk.text.tools import (
    Tool,
    ToolChoice,
    argument_validators,
    chosen_function,
    described,
    named_function,
)

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate  # with jinja2, which only templates need

_TAIL_TOKENS = 16
"""More than the mark of a thought has."""


class ToolAnswers:
    """Reads the answer to one conversation with tools."""

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        tools: Sequence[Tool],
        choice: ToolChoice = "auto",
    ) -> None:
        """Checks the tools.

        Args:
            template: says how the model writes calls.
            tokenizer: of the model.
            tools: functions that it may call.
            choice: whether it has to.

        Raises:
            UnsupportedOption: the template knows no tools, a tool is not described as it should be, or the
                choice names none of them.
            MissingExtra: the packages for it are not installed.
        """
        self.tools = tuple(tools)
        """The functions that the model is told of."""
        self._form = call_format(template)
        self._tokenizer = tokenizer
        argument_validators(tools)
        self._parameters = described(tools)
        self._chosen = chosen_function(choice, tuple(self._parameters))
        self._required = choice == "required" or self._chosen is not None
        self._thought_end: str | None = None

    @property
    def required(self) -> bool:
        """Whether the answer has to be a call."""
        return self._required

    @classmethod
    def of(
        cls,
        template: ChatTemplate | None,
        tokenizer: Tokenizer,
        tools: Sequence[Tool] | None,
        choice: ToolChoice,
    ) -> ToolAnswers | None:
        """What reads the answer; None for a conversation without tools.

        Raises:
            UnsupportedOption: a call is wished for without tools, or the model has no template; or as above.
        """
        if tools and choice != "none":
            if template is None:
                raise UnsupportedOption("the model has no chat template, so it knows no tools")
            return cls(template, tokenizer, tools, choice)
        wished = named_function(choice)
        if wished is not None:
            raise UnsupportedOption(f"tool_choice names {wished!r}, but there are no tools")
        if choice == "required":
            raise UnsupportedOption("tool_choice is 'required', but there are no tools")
        return None

    def prepare(self, options: GenerationOptions, prompt: Sequence[int]) -> GenerationOptions:
        """The options; where a call is required, with a grammar that allows one valid call and nothing else.

        Args:
            options: of the answer.
            prompt: its token ids, which may end within a thought.

        Raises:
            UnsupportedOption: they ask for a grammar already, or a tool's schema cannot be enforced.
        """
        self._thought_end = open_thought(self._tokenizer.decode(prompt[-_TAIL_TOKENS:], skip_special=False))
        if not self._required:
            return options
        if options.json_schema is not None or options.regex is not None or options.lark is not None:
            raise UnsupportedOption("tool_choice 'required' is a grammar itself; ask for no other")
        schemas = {
            name: grammar_schema(schema)
            for name, schema in self._parameters.items()
            if self._chosen in (None, name)
        }
        added = self._tokenizer.engine.get_added_tokens_decoder()
        specials = {entry.content: token for token, entry in added.items() if entry.special}
        # A thought of a limited length is ended by `Thinking`, which holds the grammar back.
        within = self._thought_end if options.thinking_tokens is None else None
        grammar = call_grammar(self._form, schemas, specials, thought_end=within)
        return replace(options, lark=grammar)

    def read(self, completion: Completion) -> Completion:
        """The completion with its calls; one that was cut short, which may end inside a call, as it is.

        Raises:
            ToolCallError: one cannot be made.
        """
        if completion.finish_reason in ("cancelled", "deadline"):
            return completion
        # The marks of calls may be special tokens, which are no part of the completion's text.
        eos_ids = self._tokenizer.record.eos_ids
        said = [token for token in completion.tokens if token not in eos_ids]
        text = self._tokenizer.decode(said, skip_special=False)
        calls = parse_tool_calls(text, self._form, self.tools, thought_end=self._thought_end)
        if self._required and not calls:
            raise ToolCallError(
                "the answer ends before its tool call is complete; allow more max_tokens", text
            )
        return replace(completion, tool_calls=calls)

    def read_last(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """The pieces of an answer, the last one with the calls that the answer holds.

        Raises:
            ToolCallError: one cannot be made; every piece has been given out before.
        """
        for chunk in chunks:
            try:
                completion = None if chunk.completion is None else self.read(chunk.completion)
            except ToolCallError:
                yield replace(chunk, completion=None)
                raise
            yield replace(chunk, completion=completion)
