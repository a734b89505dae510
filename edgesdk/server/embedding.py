"""Vectors for clients of any interface: one request at a time for each model, beside those that write.

Texts are embedded a few at a time, so that what runs for a client that has gone ends soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from edgesdk.errors import CapacityError, EdgeError
from edgesdk.server.event_stream import close_when_gone
from edgesdk.server.refusal import Refused, refusal_of
from edgesdk.server.service import Service
from edgesdk.text.encode_prompt import Prompt

MOST_TEXTS = 2048
"""Of a request, as OpenAI has it."""
_BATCH = 16


@dataclass(frozen=True)
class Embedded:
    """What came of a request.

    Attributes:
        model: its name.
        vectors: (texts, dimensions) float32.
        tokens: of all texts.
    """

    model: str
    vectors: NDArray[np.float32]
    tokens: int


async def embed(
    request: Request,
    service: Service,
    model: str | None,
    texts: Sequence[Prompt],
    *,
    dimensions: int | None,
    truncate: bool,
) -> Embedded:
    """Embeds texts.

    Args:
        request: whose client may go.
        service: of the application.
        model: its name, as the client has it.
        texts: texts or token ids.
        dimensions: how many numbers of each vector are wanted; None for all.
        truncate: cut what is longer than the context.

    Raises:
        Refused: there is no such model, it gives no vectors, or does not take the texts.
    """
    if not 0 < len(texts) <= MOST_TEXTS:
        raise Refused(400, f"input has {len(texts)} texts, expected 1 to {MOST_TEXTS}", param="input")
    name, adapter = service.host.find(model)
    if adapter is not None:
        raise Refused(400, "texts are embedded by the model alone; leave its adapter out", param="model")
    loaded = await service.host.lease(name)
    gone = asyncio.Event()
    watcher = asyncio.ensure_future(close_when_gone(request.receive, gone.set))
    try:
        opened = loaded.engine.model
        if not opened.embeds:
            raise Refused(
                400,
                f"{loaded.name} gives no embeddings; convert its checkpoint with --embeddings and --target "
                "litert or onnx-step",
                param="model",
                code="embeddings_not_supported",
            )
        async with loaded.embedding:
            ids = await asyncio.to_thread(opened.embedding_tokens, texts, truncate=truncate)
            parts: list[NDArray[np.float32]] = []
            for first in range(0, len(ids), _BATCH):
                if gone.is_set():
                    raise Refused(400, "the client has gone")
                batch = ids[first : first + _BATCH]
                parts.append(await asyncio.to_thread(opened.embed, batch, dimensions=dimensions))
    except CapacityError as error:
        found = refusal_of(error)
        raise Refused(found.status, found.message, param="input", code=found.code) from error
    except EdgeError as error:
        found = refusal_of(error)
        if found.param == "texts":  # as `Model.embed` has it
            named = found.message.replace("texts", "input", 1)
            raise Refused(found.status, named, param="input", code=found.code) from error
        raise found from error
    finally:
        watcher.cancel()
        loaded.release()
    return Embedded(loaded.name, np.concatenate(parts), sum(map(len, ids)))
