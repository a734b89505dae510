"""A request while it is answered: begun in a thread, read in pieces, ended with its model given back."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

from edgesdk.decoding.completion import Chunk, Completion
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.engine.generation import Generation
from edgesdk.engine.metrics import RequestMetrics
from edgesdk.errors import EdgeError
from edgesdk.server.ask import Ask
from edgesdk.server.figures import Figures
from edgesdk.server.model_host import LoadedModel
from edgesdk.server.refusal import Refused, refusal_of
from edgesdk.text.call_format import call_format
from edgesdk.text.stream_calls import CallStream, StreamedText
from edgesdk.text.tools import Tool, argument_validators, described


@dataclass(frozen=True)
class TextPiece:
    """A piece of an answer's text.

    Attributes:
        index: of the sample.
        text: may be empty where there are log-probabilities.
        logprobs: of the tokens since the piece before, if asked for.
    """

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class ThoughtPiece:
    """A piece of the thought before an answer; attributes as above."""

    index: int
    text: str


@dataclass(frozen=True)
class CallPiece:
    """A piece of a call.

    Attributes:
        index: of the sample.
        call: of the call in the sample, from 0.
        call_id: the same with every piece of a call.
        name: with the first piece of a call only.
        arguments: a piece of the JSON text of the arguments.
    """

    index: int
    call: int
    call_id: str
    name: str | None
    arguments: str


@dataclass(frozen=True)
class EndPiece:
    """The end of a sample.

    Attributes:
        index: of the sample.
        completion: its figures and the reason; texts as the engine has them.
        calls: how many calls it has.
    """

    index: int
    completion: Completion
    calls: int


Piece = TextPiece | ThoughtPiece | CallPiece | EndPiece


@dataclass
class _Sample:
    """What is known of one sample's calls."""

    stream: CallStream | None
    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


class Running:
    """A request that was begun; `begin` makes one."""

    def __init__(self, model: LoadedModel, generation: Generation, ask: Ask, figures: Figures) -> None:
        """Takes over a generation and the use of a model.

        Args:
            model: in use for it.
            generation: begun.
            ask: what was asked.
            figures: get its times.
        """
        self.model = model
        self.ask = ask
        self._generation = generation
        self._figures = figures
        self._samples: dict[int, _Sample] = {}
        self._released = False

    @property
    def metrics(self) -> Sequence[RequestMetrics]:
        """Figures of every sample."""
        return self._generation.all_metrics

    def close(self) -> None:
        """Ends it, within one step, and gives the model back; may be called again."""
        if self._released:
            return
        self._released = True
        self._generation.cancel()
        self._figures.observe(self.model.name, self.metrics)
        self.model.release()

    async def pieces(self) -> AsyncIterator[Piece]:
        """The answer as it comes; closing it does not end the request, `close` does.

        Raises:
            Refused: it failed.
        """
        try:
            async for chunk in self._generation:
                for piece in self._read(chunk):
                    yield piece
        except EdgeError as error:
            raise refusal_of(error) from error

    def _read(self, chunk: Chunk) -> list[Piece]:
        index = chunk.index
        pieces: list[Piece] = []
        if chunk.thought:
            pieces.append(ThoughtPiece(index, chunk.thought))
        sample = self._samples.get(index)
        if sample is None:
            sample = self._samples[index] = _Sample(self._call_stream())
        if sample.stream is None:
            if chunk.text or chunk.logprobs:
                pieces.append(TextPiece(index, chunk.text, chunk.logprobs))
        else:
            found = sample.stream.push(chunk.text)
            if chunk.completion is not None:
                found += sample.stream.finish()
            if chunk.logprobs:
                pieces.append(TextPiece(index, "", chunk.logprobs))
            for each in found:
                if isinstance(each, StreamedText):
                    pieces.append(TextPiece(index, each.text))
                elif each.index == 0 or not self.ask.one_call:
                    pieces.append(self._call(index, sample, each.index, each.name, each.arguments))
        if chunk.completion is not None:
            self._check_strict(sample)
            pieces.append(EndPiece(index, chunk.completion, len(sample.ids)))
        return pieces

    def _call(self, index: int, sample: _Sample, call: int, name: str | None, arguments: str) -> CallPiece:
        if name is not None:
            sample.ids.append(f"call_{uuid.uuid4().hex[:24]}")
            sample.names.append(name)
            sample.arguments.append("")
        sample.arguments[call] += arguments
        return CallPiece(index, call, sample.ids[call], name, arguments)

    def _call_stream(self) -> CallStream | None:
        if not self.ask.tools:
            return None
        model = self.model.engine.model
        template = model.chat_template
        assert template is not None  # the engine would have refused
        added = model.tokenizer.engine.get_added_tokens_decoder()
        specials = [entry.content for entry in added.values() if entry.special]
        return CallStream(call_format(template), described(self.ask.tools), specials)

    def _check_strict(self, sample: _Sample) -> None:
        """Holds calls of strict functions against their schemas.

        Raises:
            Refused: one does not satisfy its own.
        """
        import json

        asked = [place for place, name in enumerate(sample.names) if name in self.ask.strict]
        if not asked:
            return
        validators = argument_validators(self.ask.tools)
        for place in asked:
            name = sample.names[place]
            try:
                sound = validators[name].is_valid(json.loads(sample.arguments[place]))
            except (ValueError, RecursionError):
                sound = False
            if not sound:
                raise Refused(
                    422,
                    f"the model called {name} with arguments that its strict schema does not allow; try "
                    "again, or let a grammar hold them with tool_choice 'required'",
                    code="invalid_tool_call",
                )


async def begin(model: LoadedModel, ask: Ask, figures: Figures) -> Running:
    """Hands a request to a model's engine.

    What prepares it (template, tokens, a grammar) may take long and runs in a thread. The use of the model is
    the request's from here on, also where this raises.

    Raises:
        Refused: the engine does not take it.
    """
    begun: list[Generation] = []

    def submit(ask: Ask = ask) -> None:
        engine = model.engine
        options = ask.options_for(engine.model.chat_template if ask.messages is not None else None)
        begun.append(engine.submit(ask.prompt, messages=ask.messages, **options))

    try:
        await anyio.to_thread.run_sync(submit)
    except BaseException as error:
        for generation in begun:  # the client went while it was prepared
            generation.cancel()
        model.release()
        if isinstance(error, EdgeError):
            figures.count_refusal(model.name)
            raise refusal_of(error) from error
        raise
    return Running(model, begun[0], ask, figures)


def strict_names(tools: Sequence[Tool]) -> frozenset[str]:
    """Names of the functions that were marked as strict, in OpenAI's form."""
    found = set()
    for tool in tools:
        inner = tool.get("function", tool)
        if isinstance(inner, dict) and inner.get("strict") is True:
            found.add(str(inner.get("name")))
    return frozenset(found)
