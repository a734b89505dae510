"""A loaded model: text in, text out.

It joins a bundle's tokenizer and template to whatever backend makes sequences, and adds nothing to
either: choosing tokens is `decoding`'s, holding state is the sequence's, choosing a device is
`load`'s. A model may be used from several threads, which take turns; each stream is read by one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends import protocol
from edgesdk.backends.idle_sequences import IdleSequences
from edgesdk.backends.sequence_room import use_gates
from edgesdk.bundle.adapter_record import AdapterChoice, gates_of
from edgesdk.bundle.decoder_spec import DecoderSpec
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.whole_text import expect_causal
from edgesdk.decoding.beam import Beam, check_beams
from edgesdk.decoding.beam_cells import search_cells
from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.draft_source import DraftSource
from edgesdk.decoding.generate import generate
from edgesdk.decoding.options import GenerationKeywords, GenerationOptions, lists_options
from edgesdk.decoding.request_reader import AnswerRequest, RequestReader
from edgesdk.decoding.stream import Cancelled, Stream
from edgesdk.devices.governor import Governor
from edgesdk.devices.receipt import Receipt
from edgesdk.dispatch.live_receipt import live_receipt
from edgesdk.errors import UnsupportedOption
from edgesdk.kv.step_model import StepModel
from edgesdk.plans.orchestrated import Orchestrated
from edgesdk.text.conversation import Conversation
from edgesdk.text.encode_prompt import Prompt as Prompt
from edgesdk.text.encode_prompt import encode_prompt
from edgesdk.text.messages import Message
from edgesdk.text.tokenizer import Tokenizer
from edgesdk.text.tools import Tool as Tool
from edgesdk.text.tools import ToolChoice
from edgesdk.vectors.classifies import Classifying

if TYPE_CHECKING:
    from edgesdk.dispatch.exit_rule import EarlyExit  # for few bundles
    from edgesdk.text.chat_template import ChatTemplate, TemplateVariables  # with jinja2


class Model(Orchestrated, Classifying):
    """A bundle opened by a backend; `edgesdk.load` makes one.

    `generate` and `stream` continue a prompt as it is; `chat` and `chat_stream` answer a conversation by the
    model's chat template, which is what the command `edgesdk run` does with a prompt. All take the options
    that `GenerationOptions` describes, and `cancelled`, a function that is asked before each step of the
    model whether to stop. They check everything before anything runs, and raise:

    - UnsupportedOption: an option or a message has no meaning, or the prompt is empty or has unknown ids.
    - CapacityError: the prompt does not fit the context.
    - DeviceError: the model is closed, or the backend fails.
    - EdgeError: the chat template fails.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: protocol.SequenceBackend,
        receipt: Receipt,
        governor: Governor | None = None,
        *,
        isolate_grammars: bool | None = None,
        drafts: DraftSource | None = None,
    ) -> None:
        """Takes over a backend.

        Args:
            bundle: where tokenizer and template are.
            backend: makes sequences; closed with this object.
            receipt: what the load did.
            governor: may limit the context of new requests.
            isolate_grammars: as in `LoadOptions`.
            drafts: gives drafters for it; closed with this object. None for answers token by token.
        """
        self._bundle = bundle
        self._backend = backend
        self._receipt = receipt
        self._governor = governor
        self._reader = RequestReader(bundle, isolate_grammars=isolate_grammars)
        self._sequences = IdleSequences(backend)
        self._drafts = drafts

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        return self._bundle

    @property
    def receipt(self) -> Receipt:
        """What runs the model now, what was refused on the way, and what changed since."""
        receipt = live_receipt(self._receipt, self._backend)
        notes = (*(() if self._drafts is None else self._drafts.notes), *self._exit_notes)
        return replace(receipt, notes=(*receipt.notes, *notes)) if notes else receipt

    @property
    def backend(self) -> protocol.SequenceBackend:
        """What makes its sequences; for the engine, which schedules steps itself."""
        return self._backend

    @property
    def drafts(self) -> DraftSource | None:
        """Where drafters for it come from, if it has any; for the engine."""
        return self._drafts

    @property
    def decoder(self) -> DecoderSpec:
        """Shape of the variant that runs."""
        manifest = self._bundle.manifest
        return manifest.decoder_of(self._bundle.variant(self._receipt.variant))

    @property
    def reader(self) -> RequestReader:
        """What reads requests to it; for the engine, which runs them itself."""
        return self._reader

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._reader.tokenizer

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together, as things stand: a governor may lower it."""
        limit = None if self._governor is None else self._governor.limits().context_tokens
        return self.full_context if limit is None else min(limit, self.full_context)

    @cached_property
    def full_context(self) -> int:
        """Most tokens of prompt and answer together, whatever a governor says."""
        if not self.decoder.is_causal and isinstance(self._backend, StepModel):
            return self._backend.context
        sequence = self._sequences.borrow()
        context = sequence.context
        self._sequences.give_back(sequence, reusable=True)
        return context

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one.

        Raises:
            BundleError: its file cannot be read.
        """
        return self._reader.chat_template

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the start token where the model wants one."""
        return self.tokenizer.encode(text)

    def new_sequence(self) -> protocol.TokenSequence:
        """An empty sequence of its own, for callers that choose tokens themselves; theirs to close.

        Raises:
            DeviceError: the model is closed.
        """
        return self._sequences.new()

    def score(
        self, ids: Sequence[int] | NDArray[np.int32], *, adapter: AdapterChoice = None
    ) -> NDArray[np.float32]:
        """Logits after each token of a text, for measurements.

        Args:
            ids: (n,) token ids.
            adapter: as in `GenerationOptions`.

        Returns:
            (n, V) float32.

        Raises:
            CapacityError: the text does not fit the context.
            UnsupportedOption: it is empty or holds unknown ids, or there is no such adapter.
        """
        known = self._reader.known_ids(ids, self.full_context)
        gates = gates_of(self._bundle.manifest.adapters, adapter)
        sequence = self._sequences.borrow()
        try:
            use_gates(sequence, gates)
            return sequence.score(np.asarray(known, np.int32)).copy()
        finally:
            self._sequences.give_back(sequence, reusable=True)

    def render_prompt(
        self, text: str, *, raw: bool = False, template_variables: TemplateVariables | None = None
    ) -> list[int]:
        """Token ids that put `text` to the model in the way it was trained for.

        Args:
            text: a question, or, with `raw` or for a model without chat template, the start of a text.
            raw: take the text as it is, although the model has a chat template.
            template_variables: as for `render_chat`.

        Raises:
            CapacityError: it is far too long for the context.
            EdgeError: the template fails.
            UnsupportedOption: there are variables and no template, or one that does not read them.
        """
        if raw or self.chat_template is None:
            if template_variables is not None:
                raise UnsupportedOption("template variables go with a chat template; this prompt has none")
            return encode_prompt(text, self.tokenizer, self.full_context)
        return self.render_chat([{"role": "user", "content": text}], template_variables=template_variables)

    def render_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        template_variables: TemplateVariables | None = None,
    ) -> list[int]:
        """Token ids of a conversation, up to where the answer begins.

        Args:
            messages: each with `role` and `content`: a text, or parts of type `text`.
            tools: functions that the model may call.
            template_variables: values of what else the template reads, such as `enable_thinking`.

        Raises:
            UnsupportedOption: the model has no chat template, or it leaves a message out or does not read a
                variable, or a message is not as it should be.
            CapacityError: it is far too long for the context.
            EdgeError: the template fails.
        """
        conversation = Conversation(messages, tools, template_variables=template_variables)
        return self._reader.render(conversation, self.full_context)

    @lists_options
    def generate(
        self,
        prompt: Prompt,
        *,
        cancelled: Cancelled | None = None,
        early_exit: EarlyExit | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Completion:
        """Continues a prompt as it is, without the chat template; `chat` asks a question.

        It stops after `max_tokens`, 256 unless said otherwise.
        """
        return self._start(prompt, GenerationOptions.of(options), cancelled, early_exit).result()

    @lists_options
    def stream(
        self,
        prompt: Prompt,
        *,
        cancelled: Cancelled | None = None,
        early_exit: EarlyExit | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Stream:
        """Continues a prompt as `generate` does, piece by piece; the last piece brings the completion.

        `Stream.cancel`, from any thread, ends it within a step; so does closing it or reading no further.
        """
        return self._start(prompt, GenerationOptions.of(options), cancelled, early_exit)

    @lists_options
    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: ToolChoice = "auto",
        template_variables: TemplateVariables | None = None,
        cancelled: Cancelled | None = None,
        early_exit: EarlyExit | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Completion:
        """Answers a conversation.

        Args:
            messages: each with `role` and `content`: a text, or OpenAI's parts of type `text`.
            tools: functions that the model may call; its calls are in `Completion.tool_calls`, checked
                against the schemas of the functions.
            tool_choice: `auto` leaves it to the model; `required` makes the answer one valid call, the name
                of a function (as OpenAI writes it) a call of that one; `none` tells it of no function.
            template_variables: values of what else the chat template reads, such as `enable_thinking`.
            cancelled: asked before each step of the model whether to stop.
            early_exit: a rule for tokens to leave the model early, as for `classify`; without drafts.
            **options: see `GenerationOptions`.

        Raises:
            ToolCallError: the model wrote a call that cannot be made.
        """
        asked = self.chat_stream(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            template_variables=template_variables,
            cancelled=cancelled,
            early_exit=early_exit,
            **options,
        )
        return asked.result()

    @lists_options
    def chat_stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: ToolChoice = "auto",
        template_variables: TemplateVariables | None = None,
        cancelled: Cancelled | None = None,
        early_exit: EarlyExit | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Stream:
        """Answers a conversation piece by piece, as `stream` and `chat` do."""
        conversation = Conversation(messages, tools, tool_choice, template_variables)
        return self._start(conversation, GenerationOptions.of(options), cancelled, early_exit)

    def beam_search(
        self, prompt: Prompt, *, width: int = 4, max_tokens: int = 128, length_penalty: float = 0.6
    ) -> list[Beam]:
        """The likeliest continuations of a prompt that a search of this width finds, best first.

        Args:
            prompt: text or token ids.
            width: how many branches to follow, which share the prompt's cells; that many are returned.
            max_tokens: most tokens of each.
            length_penalty: 0 ranks by probability alone; higher prefers longer ones.

        Raises:
            UnsupportedOption: an argument has no meaning, or the backend keeps its cache to itself.
            CapacityError: the prompt or the branches do not fit.
        """
        manifest = self._bundle.manifest
        check_beams(width, max_tokens, length_penalty)
        ids = self._reader.known_ids(prompt, self.context)
        return search_cells(
            self._runner("beam search"),
            ids,
            manifest.decoder.vocab_size,
            width=width,
            # The last token of a beam is never run, as in generation.
            max_tokens=min(max_tokens, self.context - len(ids) + 1),
            eos_ids=manifest.tokenizer.eos_ids,
            length_penalty=length_penalty,
        )

    def close(self) -> None:
        """Releases the model, once the step that runs is over; may be called again.

        Whoever reads an answer in another thread gets a DeviceError.
        """
        self._sequences.close()
        self._idle_steps.clear()
        if self._drafts is not None:
            self._drafts.close()
        self._backend.close()

    def __enter__(self) -> Self:
        """Returns the model."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the model."""
        self.close()

    def _start(
        self,
        asked: Prompt | Conversation,
        options: GenerationOptions,
        cancelled: Cancelled | None,
        early_exit: EarlyExit | None,
    ) -> Stream:
        """Checks a request now, so that its errors come with the call and not with the first piece."""
        expect_causal(self.decoder)
        request = self._reader.read(asked, options, self.context)
        read = iter if request.tools is None else request.tools.read_last
        run = partial(self._run, request) if early_exit is None else self._run_early(request, early_exit)
        return Stream(lambda stop: read(run(stop)), cancelled)

    def _run(self, request: AnswerRequest, cancelled: Cancelled) -> Iterator[Chunk]:
        drafting = None if self._drafts is None else self._drafts.shared()
        sequence = self._sequences.borrow()
        sound = False
        try:
            use_gates(sequence, request.gates)
            yield from generate(
                sequence, request.prompt, request.choosers[0], request.answers[0], cancelled, drafting
            )
            sound = True
        except GeneratorExit:  # the reader has had enough
            sound = True
            raise
        finally:
            self._sequences.give_back(sequence, reusable=sound)
