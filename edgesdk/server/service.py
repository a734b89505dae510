"""What the handlers of all interfaces share: models, bounds, figures, and how an answer is collected."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from edgesdk.decoding.completion import Completion
from edgesdk.decoding.logprobs import TokenLogprob
from edgesdk.server.ask import Ask
from edgesdk.server.event_stream import close_when_gone
from edgesdk.server.figures import Figures
from edgesdk.server.model_host import ModelHost
from edgesdk.server.running import CallPiece, EndPiece, Running, TextPiece, ThoughtPiece, begin
from edgesdk.server.server_options import ServerOptions


@dataclass(frozen=True)
class Service:
    """What a server has.

    Attributes:
        host: opens models.
        options: bounds of requests.
        figures: of what was answered.
    """

    host: ModelHost
    options: ServerOptions
    figures: Figures

    async def begin(self, name: str | None, ask: Ask) -> Running:
        """Hands a request to a model, or one of its adapters; it is loaded if it was not.

        Raises:
            Refused: there is no such model, or its engine does not take the request.
        """
        model, adapter = self.host.find(name)
        if adapter is not None:
            ask = replace(ask, options={**ask.options, "adapter": adapter})
        return await begin(await self.host.lease(model), ask, self.figures)


def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    found: Service = request.app.state.service
    return found


@dataclass
class WholeCall:
    """A call of a function.

    Attributes:
        call_id: what its result refers to.
        name: of the function.
        arguments: JSON text.
    """

    call_id: str
    name: str
    arguments: str = ""


@dataclass
class WholeAnswer:
    """One sample.

    Attributes:
        text: of the answer, without calls.
        thought: before it.
        calls: of functions.
        logprobs: of its tokens, if asked for.
        end: how it ended; there once it has.
    """

    text: str = ""
    thought: str = ""
    calls: list[WholeCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: EndPiece | None = None

    @property
    def completion(self) -> Completion:
        """Its figures."""
        assert self.end is not None
        return self.end.completion


async def collect(request: Request, running: Running) -> list[WholeAnswer]:
    """All samples of a request, which is cancelled when the client goes.

    Raises:
        Refused: it failed.
    """
    answers: dict[int, WholeAnswer] = {}
    watcher = asyncio.ensure_future(close_when_gone(request.receive, running.close))
    try:
        async for piece in running.pieces():
            answer = answers.setdefault(piece.index, WholeAnswer())
            match piece:
                case TextPiece():
                    answer.text += piece.text
                    answer.logprobs += piece.logprobs
                case ThoughtPiece():
                    answer.thought += piece.text
                case CallPiece():
                    if piece.name is not None:
                        answer.calls.append(WholeCall(piece.call_id, piece.name))
                    answer.calls[piece.call].arguments += piece.arguments
                case EndPiece():
                    answer.end = piece
    finally:
        watcher.cancel()
        running.close()
    return [answers[index] for index in sorted(answers)]
