"""The ASGI application: which path is answered by what, behind the guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edgesdk.errors import EdgeError, first_line
from edgesdk.server.anthropic.messages import count_tokens, messages, messages_error
from edgesdk.server.figures import Figures
from edgesdk.server.guard import Guard, log_refusal
from edgesdk.server.log import LOG
from edgesdk.server.model_host import ModelHost
from edgesdk.server.ollama import api as ollama
from edgesdk.server.ollama import embed as ollama_embed
from edgesdk.server.ollama import models as ollama_models
from edgesdk.server.ollama.api import ollama_error
from edgesdk.server.open_api import open_api
from edgesdk.server.openai.chat import chat
from edgesdk.server.openai.completions import completions
from edgesdk.server.openai.embeddings import embeddings
from edgesdk.server.openai.errors import error_response
from edgesdk.server.openai.kept_responses import KeptResponses
from edgesdk.server.openai.models import model, models
from edgesdk.server.openai.responses import responses
from edgesdk.server.refusal import Refused, refusal_of
from edgesdk.server.server_options import ServerOptions
from edgesdk.server.service import Service

Handler = Callable[[Request], Awaitable[Response]]
Render = Callable[[Refused], Response]

PAGE = Path(__file__).parent / "page"

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing from another host, nothing inline, in no frame."""


def make_application(host: ModelHost, options: ServerOptions) -> Starlette:
    """The application of a server.

    Args:
        host: opens models; the application's from here on.
        options: who is let in, and bounds of requests.
    """
    figures = Figures(lambda: [(each.name, each.engine.metrics) for each in host.loaded])
    service = Service(host, options, figures)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await host.start()
        try:
            yield
        finally:
            await host.close()

    app = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(Guard, options=options),
            Middleware(
                CORSMiddleware,
                allow_origins=list(options.allowed_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            ),
        ],
        exception_handlers={404: _not_found, 405: _not_found},
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.kept_responses = KeptResponses()
    return app


def _routes() -> list[Route | Mount]:
    return [
        Route("/v1/chat/completions", answered(chat, error_response), methods=["POST"]),
        Route("/v1/completions", answered(completions, error_response), methods=["POST"]),
        Route("/v1/responses", answered(responses, error_response), methods=["POST"]),
        Route("/v1/embeddings", answered(embeddings, error_response), methods=["POST"]),
        Route("/v1/models", answered(models, error_response)),
        Route("/v1/models/{name:path}", answered(model, error_response)),
        Route("/v1/messages", answered(messages, messages_error), methods=["POST"]),
        Route("/v1/messages/count_tokens", answered(count_tokens, messages_error), methods=["POST"]),
        Route("/api/chat", answered(ollama.chat, ollama_error), methods=["POST"]),
        Route("/api/generate", answered(ollama.generate, ollama_error), methods=["POST"]),
        Route("/api/embed", answered(ollama_embed.embed, ollama_error), methods=["POST"]),
        Route("/api/embeddings", answered(ollama_embed.embed_one, ollama_error), methods=["POST"]),
        Route("/api/show", answered(ollama_models.show, ollama_error), methods=["POST"]),
        Route("/api/tags", answered(ollama_models.tags, ollama_error)),
        Route("/api/ps", answered(ollama_models.loaded, ollama_error)),
        Route("/api/version", answered(ollama_models.version, ollama_error)),
        Route("/openapi.json", open_api),
        Route("/health", _health),
        Route("/metrics", _metrics),
        Route("/", _page),
        Mount("/page", _PageFiles(directory=PAGE, check_dir=False)),
    ]


def answered(handler: Handler, render: Render) -> Handler:
    """A handler whose refusals are written as its interface has them; nothing that it raises ends more."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            found = refused
        except EdgeError as error:
            found = refusal_of(error)
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - one request's fault is not another's
            LOG.exception("a request failed; please report this")
            found = Refused(500, f"internal: {type(error).__name__}: {first_line(error)}; please report this")
        if found.status != 500:
            log_refusal(request.scope, found.status, found.message)
        return render(found)

    return answer


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    what = "no such path" if status == 404 else "the path does not take this method"
    log_refusal(request.scope, status, what)
    return error_response(Refused(status, f"{what}; docs/server.md lists what there is"))


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    figures = request.app.state.service.figures
    return Response(figures.text(), media_type=figures.content_type)


async def _page(request: Request) -> Response:
    if not (PAGE / "index.html").is_file():
        return PlainTextResponse("edgesdk serves models here: see /v1/models\n", headers=PAGE_HEADERS)
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


class _PageFiles(StaticFiles):
    """Files of the page, with its headers."""

    def file_response(self, *arguments: object, **keywords: object) -> Response:
        answer = super().file_response(*arguments, **keywords)  # type: ignore[arg-type]
        answer.headers.update(PAGE_HEADERS)
        return answer
