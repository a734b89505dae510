"""From what a caller asks of one model to what can be run; whatever is wrong with it shows here.

`Model`, `Engine` and `Session` have their requests read by it, so that the same words are the same tokens,
the same options the same choices. It holds all of a bundle that deals with text (tokenizer, chat template,
compiled grammars, recommendations) and knows nothing of backends, cells or other requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.adapter_record import AdapterChoice, Gates, gates_of
from edgesdk.bundle.manifest import TOKENIZER_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.decoding.answer import Answer
from edgesdk.decoding.choose import Chooser
from edgesdk.decoding.grammar import Grammar, GrammarTokenizer
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.thinking import Thinking
from edgesdk.errors import UnsupportedOption
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt, check_known_ids, encode_prompt
from edgesdk.text.find_thought import AnswerReader, find_thought
from edgesdk.text.messages import plain_tools
from edgesdk.text.prompt_limit import check_text_fits
from edgesdk.text.read_channels import ChannelReader
from edgesdk.text.read_chat_template import read_chat_template
from edgesdk.text.render_conversation import render_conversation
from edgesdk.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from edgesdk.decoding.tool_answers import ToolAnswers  # with every form of calls
    from edgesdk.text.chat_template import ChatTemplate  # with jinja2


@dataclass(frozen=True, eq=False)
class AnswerRequest:
    """One prompt, with what chooses and what collects the tokens of each answer to it.

    Attributes:
        prompt: (n,) int32, all tokens to be seen before the first is chosen.
        held: how many of them the sequence has that the request goes on with; it forgets its others.
        limit: most tokens of an answer.
        choosers: one for each sample, which have seen the prompt; none to run the prompt only.
        answers: one for each sample; at least one.
        tools: reads the calls of a complete answer, if the conversation has tools.
        gates: that all its tokens are run with.
    """

    prompt: NDArray[np.int32]
    held: int
    limit: int
    choosers: tuple[Chooser, ...]
    answers: tuple[Answer, ...]
    tools: ToolAnswers | None
    gates: Gates = ()


class RequestReader:
    """Reads the requests to one model."""

    def __init__(self, bundle: Bundle, *, isolate_grammars: bool | None = None) -> None:
        """Remembers where things are; they are read when they are first used.

        Args:
            bundle: the model's.
            isolate_grammars: as for `check_apart`.
        """
        self._bundle = bundle
        self._isolate_grammars = isolate_grammars
        self.tokenizer = Tokenizer(bundle.file(TOKENIZER_NAME), bundle.manifest.tokenizer)
        """The model's tokenizer."""

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one.

        Raises:
            BundleError: its file cannot be read.
        """
        return read_chat_template(self._bundle)

    def read(
        self,
        asked: Prompt | Conversation,
        options: GenerationOptions,
        context: int,
        *,
        samples: int = 1,
        held: Sequence[int] = (),
        calls_as_text: bool = False,
        bound: Gates | None = None,
    ) -> AnswerRequest:
        """Checks a request and makes what it needs.

        Args:
            asked: a prompt, taken as it is, or a conversation for the chat template.
            options: how to answer.
            context: most tokens of prompt and answer.
            samples: how many answers; 0 runs the prompt only.
            held: tokens of the sequence that the request goes on with. A prompt follows them; a conversation
                is whole, and goes on from where it parts from them.
            calls_as_text: leave the calls of an answer in its text, with their special tokens.
            bound: gates that the sequence is run with which the request goes on with; None for a new one.

        Raises:
            UnsupportedOption: an option or a message has no meaning, or the prompt is empty or has unknown
                ids, or the sequence is another adapter's.
            CapacityError: the prompt does not fit.
            EdgeError: the chat template fails.
        """
        gates = self._gates(options.adapter, bound)
        tools = None
        thought: Callable[[], AnswerReader] | None = None
        if isinstance(asked, Conversation):
            tools = self._tools(asked)
            ids = self.render(replace(asked, tools=None if tools is None else tools.tools), context)
            thought = find_thought(self.tokenizer, ids)
            if tools is not None:
                options = tools.prepare(options, ids)
        else:
            # Only the first text of a sequence gets a start token.
            add_bos = False if held else None
            ids = [*held, *encode_prompt(asked, self.tokenizer, context, add_bos=add_bos)]
        vocab_size = self._bundle.manifest.decoder.vocab_size
        check_known_ids(ids, vocab_size, context)
        # A full context still gives one token: it is chosen from the last logits and never run.
        limit = context - len(ids) + 1
        if options.max_tokens is not None:
            limit = min(limit, options.max_tokens)
        if options.thinking_tokens is not None and thought is None:
            raise UnsupportedOption("thinking_tokens goes with messages; this request has a plain prompt")
        grammar = Grammar.of(options, self._grammar_tokenizer) if samples else None
        required = tools is not None and tools.required
        choosers = tuple(
            Chooser(
                replace(options, seed=_derive_seed(options.seed, index)),
                self._bundle.manifest.generation,
                vocab_size,
                grammar=grammar,
                thinking=self._thinking(options, thought, grammar, required=required),
            )
            for index in range(samples)
        )
        for chooser in choosers:
            chooser.observe(ids)
        answers = tuple(
            Answer(
                self.tokenizer,
                options,
                limit=limit,
                prompt_tokens=len(ids),
                index=index,
                thought=None if thought is None else thought(),
                shows_special=calls_as_text and tools is not None,
            )
            for index in range(max(1, samples))
        )
        reads = None if calls_as_text else tools
        prompt = np.asarray(ids, np.int32)
        return AnswerRequest(prompt, _common(held, ids), limit, choosers, answers, reads, gates)

    def known_ids(self, prompt: Prompt | NDArray[np.int32], context: int) -> list[int]:
        """A prompt's token ids, after every check of it.

        Raises:
            UnsupportedOption: it is neither text nor token ids, or is empty, or holds unknown ids.
            CapacityError: it does not fit.
        """
        ids = encode_prompt(prompt, self.tokenizer, context)
        check_known_ids(ids, self._bundle.manifest.decoder.vocab_size, context)
        return ids

    def render(self, conversation: Conversation, context: int) -> list[int]:
        """Token ids of a conversation, up to where the answer begins.

        Raises:
            UnsupportedOption: the model has no chat template, or it leaves a message out or does not read a
                variable, or a message is not as it should be.
            CapacityError: it is far too long for the context.
            EdgeError: the template fails.
        """
        template = self.chat_template
        if template is None:
            name = self._bundle.manifest.name
            raise UnsupportedOption(
                f"{name} has no chat template; use generate or stream with a plain prompt"
            )
        text = render_conversation(
            template, conversation.messages, conversation.tools, conversation.template_variables
        )
        check_text_fits(text, self.tokenizer, context)
        # Templates write the start token themselves where the model wants one.
        return self.tokenizer.encode(text, add_bos=False)

    def _gates(self, asked: AdapterChoice, bound: Gates | None) -> Gates:
        """Of a request, which in a sequence that is bound to some has those or says nothing of them."""
        found = gates_of(self._bundle.manifest.adapters, asked)
        if bound is None or found == bound:
            return found
        if asked is None:
            return bound
        raise UnsupportedOption(
            "the session's tokens were run with another adapter; open a session with this one"
        )

    def _thinking(
        self,
        options: GenerationOptions,
        thought: Callable[[], AnswerReader] | None,
        grammar: Grammar | None,
        *,
        required: bool,
    ) -> Thinking | None:
        """What ends a thought, or holds the grammar back; None where neither is wanted."""
        if thought is None:
            return None
        reader, most = thought(), options.thinking_tokens
        # The grammar of a required call has the thought in it, unless its length is limited, and in channels
        # the channel, too.
        waits = grammar is not None and reader.waits and not required
        if not (waits or most is not None) or (required and isinstance(reader, ChannelReader)):
            return None
        vocab_size = self._bundle.manifest.decoder.vocab_size
        return Thinking(self.tokenizer, reader, most, vocab_size=vocab_size, rules=grammar is not None)

    def _tools(self, conversation: Conversation) -> ToolAnswers | None:
        from edgesdk.decoding.tool_answers import ToolAnswers  # with every form of calls: not before a chat

        tools = plain_tools(conversation.tools)
        return ToolAnswers.of(self.chat_template, self.tokenizer, tools, conversation.tool_choice)

    @cached_property
    def _grammar_tokenizer(self) -> GrammarTokenizer:
        vocab_size = self._bundle.manifest.decoder.vocab_size
        return GrammarTokenizer(self.tokenizer, vocab_size, isolated=self._isolate_grammars)


def _derive_seed(seed: int | None, index: int) -> int | None:
    """The seed of one sample; the first draws as it would without the others."""
    if seed is None or index == 0:
        return seed
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their start."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
