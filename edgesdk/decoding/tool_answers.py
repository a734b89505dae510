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
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.text.tool_calls import (
    MISTRAL_MARK,
    Tool,
    call_format,
    call_grammar,
    described,
    parse_tool_calls,
)

if TYPE_CHECKING:
    from edgesdk.text.chat_template import ChatTemplate  # with jinja2, which only templates need


class ToolAnswers:
    """Reads the answer to one conversation with tools."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer, tools: Sequence[Tool]) -> None:
        """Checks the tools.

        Args:
            template: says how the model writes calls.
            tokenizer: of the model.
            tools: functions that it may call.

        Raises:
            UnsupportedOption: the template knows no tools, or a tool is not described as it should be.
        """
        self._form = call_format(template.source)
        self._tokenizer = tokenizer
        self._tools = tuple(tools)
        self._parameters = described(tools)
        self._required = False

    def require(self, options: GenerationOptions) -> GenerationOptions:
        """The options with a grammar that allows one valid call and nothing else.

        From then on an answer without a call, which can only have been cut, is an error.

        Raises:
            UnsupportedOption: they ask for a grammar already, or a tool's schema cannot be enforced.
        """
        if options.json_schema is not None or options.regex is not None or options.lark is not None:
            raise UnsupportedOption("tool_choice 'required' is a grammar itself; ask for no other")
        schemas = {name: grammar_schema(schema) for name, schema in self._parameters.items()}
        mark = self._tokenizer.engine.token_to_id(MISTRAL_MARK)
        special = mark if mark in self._tokenizer.special_ids else None
        self._required = True
        return replace(options, lark=call_grammar(self._form, schemas, special))

    def read(self, completion: Completion) -> Completion:
        """The completion with its calls.

        Raises:
            ToolCallError: one cannot be made.
        """
        # The marks of calls may be special tokens, which are no part of the completion's text.
        eos_ids = self._tokenizer.record.eos_ids
        said = [token for token in completion.tokens if token not in eos_ids]
        text = self._tokenizer.decode(said, skip_special=False)
        calls = parse_tool_calls(text, self._form, self._tools)
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
            # What was cut short may end inside a call.
            if chunk.completion is None or chunk.completion.finish_reason in ("cancelled", "deadline"):
                yield chunk
                continue
            try:
                completion = self.read(chunk.completion)
            except ToolCallError:
                if chunk.text:
                    yield replace(chunk, completion=None)
                raise
            yield replace(chunk, completion=completion)
