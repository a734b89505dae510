"""Ollama's `/api/embed`, and `/api/embeddings` of its older clients."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.server.embedding import Embedded
from edgesdk.server.embedding import embed as embed_texts
from edgesdk.server.event_stream import compact
from edgesdk.server.ollama.documents import EmbedDocument, OneEmbeddingDocument
from edgesdk.server.read_document import read_document
from edgesdk.server.service import service_of


async def embed(request: Request) -> Response:
    """Embeds one text or several, cut to the context unless `truncate` is false.

    Raises:
        Refused: an option is not honoured, or the model gives no vectors.
    """
    began_s = time.perf_counter()
    document = await read_document(request, EmbedDocument, service_of(request).options)
    texts = [document.input] if isinstance(document.input, str) else document.input
    truncate = document.truncate is None or document.truncate
    found = await _embed(request, document, texts, document.dimensions, truncate)
    body = {
        "model": found.model,
        "embeddings": found.vectors.tolist(),
        "total_duration": int((time.perf_counter() - began_s) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": found.tokens,
    }
    return Response(compact(body), media_type="application/json")


async def embed_one(request: Request) -> Response:
    """Embeds one text.

    Raises:
        Refused: as above.
    """
    document = await read_document(request, OneEmbeddingDocument, service_of(request).options)
    found = await _embed(request, document, [document.prompt], None, True)
    return Response(compact({"embedding": found.vectors[0].tolist()}), media_type="application/json")


async def _embed(
    request: Request,
    document: EmbedDocument | OneEmbeddingDocument,
    texts: list[str],
    dimensions: int | None,
    truncate: bool,
) -> Embedded:
    service = service_of(request)
    return await embed_texts(
        request, service, document.model, texts, dimensions=dimensions, truncate=truncate
    )
