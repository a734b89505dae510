"""A loaded model: text in, text out.

It joins a bundle's tokenizer and template to whatever backend makes sequences, and adds nothing to
either: choosing tokens is `decoding`'s, holding state is the sequence's, choosing a device is
`load`'s. A model serves one thread; several streams of that thread may be read in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgesdk.backends import protocol
from edgesdk.bundle.manifest import CHAT_TEMPLATE_NAME, TOKENIZER_NAME
from edgesdk.bundle.reader import Bundle
from edgesdk.bundle.records import JsonValue
from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.generate import check_request, generate_tokens
from edgesdk.decoding.options import GenerationOptions
from edgesdk.decoding.sampling import Sampler
from edgesdk.decoding.stopping import StopStrings
from edgesdk.decoding.stream_text import stream_text
from edgesdk.devices.receipt import Receipt
from edgesdk.errors import BundleError, DeviceError, UnsupportedOption
from edgesdk.text.chat_template import ChatTemplate, Message
from edgesdk.text.detokenize import Detokenizer
from edgesdk.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
"""Text, taken as it is, or token ids."""

Tool = Mapping[str, JsonValue]
"""JSON schema of a function that a model may call."""


class Model:
    """A bundle opened by a backend; `edgesdk.load` makes one.

    `generate`, `stream`, `chat` and `chat_stream` take the options that `GenerationOptions` describes.
    They check everything before anything runs, and raise:

    - UnsupportedOption: an option has no meaning, or the prompt is empty or holds unknown ids.
    - CapacityError: the prompt does not fit the context.
    - DeviceError: the model is closed, or the backend fails.
    - EdgeError: the chat template fails.
    """

    def __init__(self, bundle: Bundle, backend: protocol.LoadedBackend, receipt: Receipt) -> None:
        """Takes over a backend.

        Args:
            bundle: where tokenizer and template are.
            backend: makes sequences; closed with this object.
            receipt: what the load did.
        """
        self._bundle = bundle
        self._backend = backend
        self._receipt = receipt
        self._tokenizer = Tokenizer(bundle.file(TOKENIZER_NAME), bundle.manifest.tokenizer)
        self._idle: protocol.Sequence | None = None
        self._closed = False

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        return self._bundle

    @property
    def receipt(self) -> Receipt:
        """What runs the model, and what was refused on the way."""
        return self._receipt

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @cached_property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        sequence = self._borrow()
        context = sequence.context
        self._give_back(sequence, reusable=True)
        return context

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one.

        Raises:
            BundleError: its file cannot be read.
        """
        if CHAT_TEMPLATE_NAME not in self._bundle.manifest.files:
            return None
        record = self._bundle.manifest.tokenizer
        try:
            source = self._bundle.file(CHAT_TEMPLATE_NAME).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{CHAT_TEMPLATE_NAME} of {self._bundle.path} cannot be read: {error}"
            ) from error
        return ChatTemplate(source, bos_token=record.bos_token, eos_token=record.eos_token)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the start token where the model wants one."""
        return self._tokenizer.encode(text)

    def new_sequence(self) -> protocol.Sequence:
        """An empty sequence of its own, for callers that choose tokens themselves; theirs to close.

        Raises:
            DeviceError: the model is closed.
        """
        if self._closed:
            raise DeviceError("the model is closed; load it again")
        return self._backend.new_sequence()

    def score(self, ids: Sequence[int] | NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits after each token of a text, for measurements.

        Args:
            ids: (n,) token ids.

        Returns:
            (n, V) float32.

        Raises:
            CapacityError: the text does not fit the context.
        """
        sequence = self._borrow()
        try:
            return sequence.score(np.asarray(ids, np.int32)).copy()
        finally:
            self._give_back(sequence, reusable=True)

    def render_prompt(self, text: str, *, raw: bool = False) -> list[int]:
        """Token ids that put `text` to the model in the way it was trained for.

        Args:
            text: a question, or, with `raw` or for a model without chat template, the start of a text.
            raw: take the text as it is, although the model has a chat template.

        Raises:
            EdgeError: the template fails.
        """
        if raw or self.chat_template is None:
            return self.tokenize(text)
        return self.render_chat([{"role": "user", "content": text}])

    def render_chat(self, messages: Sequence[Message], *, tools: Sequence[Tool] | None = None) -> list[int]:
        """Token ids of a conversation, up to where the answer begins.

        Args:
            messages: each with `role` and `content`.
            tools: functions that the model may call.

        Raises:
            UnsupportedOption: the model has no chat template.
            EdgeError: the template fails.
        """
        if self.chat_template is None:
            name = self._bundle.manifest.name
            raise UnsupportedOption(
                f"{name} has no chat template; use generate or stream with a plain prompt"
            )
        text = self.chat_template.render(messages, add_generation_prompt=True, tools=tools)
        # Templates write the start token themselves where the model wants one.
        return self._tokenizer.encode(text, add_bos=False)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Completion:
        """Continues a prompt."""
        options = GenerationOptions(
            max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, ignore_eos
        )
        return _completion(self._start(prompt, options))

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Iterator[Chunk]:
        """Continues a prompt piece by piece; the last piece brings the completion.

        Closing the iterator, or no longer reading it, stops the model.
        """
        options = GenerationOptions(
            max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, ignore_eos
        )
        return self._start(prompt, options)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Completion:
        """Answers a conversation."""
        options = GenerationOptions(
            max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, ignore_eos
        )
        return _completion(self._start(self.render_chat(messages, tools=tools), options))

    def chat_stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> Iterator[Chunk]:
        """Answers a conversation piece by piece, as `stream` does."""
        options = GenerationOptions(
            max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, ignore_eos
        )
        return self._start(self.render_chat(messages, tools=tools), options)

    def close(self) -> None:
        """Releases the model; may be called again."""
        if self._closed:
            return
        self._closed = True
        if self._idle is not None:
            self._idle.close()
            self._idle = None
        self._backend.close()

    def __enter__(self) -> Self:
        """Returns the model."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the model."""
        self.close()

    def _start(self, prompt: Prompt, options: GenerationOptions) -> Iterator[Chunk]:
        """Checks a request now, so that its errors come with the call and not with the first piece."""
        manifest = self._bundle.manifest
        vocab_size = manifest.decoder.vocab_size
        ids = self.tokenize(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
        sampler = Sampler(options.sampling(manifest.generation), vocab_size)
        stops = StopStrings(options.stop)
        check_request(ids, options.max_tokens, self.context, vocab_size)
        return self._run(ids, options, sampler, stops)

    def _run(
        self, ids: list[int], options: GenerationOptions, sampler: Sampler, stops: StopStrings
    ) -> Iterator[Chunk]:
        sequence = self._borrow()
        sound = False
        eos_ids = () if options.ignore_eos else self._bundle.manifest.tokenizer.eos_ids
        try:
            chosen = generate_tokens(
                sequence, ids, sampler, max_tokens=options.max_tokens, eos_ids=frozenset(eos_ids)
            )
            yield from stream_text(chosen, Detokenizer(self._tokenizer), stops, len(ids))
            sound = True
        except GeneratorExit:  # the reader has had enough
            sound = True
            raise
        finally:
            self._give_back(sequence, reusable=sound)

    def _borrow(self) -> protocol.Sequence:
        """An empty sequence: the idle one, whose memory is warm, or a new one."""
        if self._closed:
            raise DeviceError("the model is closed; load it again")
        sequence, self._idle = self._idle, None
        return self._backend.new_sequence() if sequence is None else sequence

    def _give_back(self, sequence: protocol.Sequence, *, reusable: bool) -> None:
        if reusable and self._idle is None and not self._closed:
            sequence.truncate(0)
            self._idle = sequence
        else:
            sequence.close()


def _completion(chunks: Iterator[Chunk]) -> Completion:
    *_, last = chunks
    if last.completion is None:
        raise DeviceError("generation ended without a completion")
    return last.completion
