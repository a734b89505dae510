"""`POST /v1/embeddings`: vectors of texts."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.server.embedding import embed
from edgesdk.server.event_stream import compact
from edgesdk.server.openai.documents import EmbeddingsDocument
from edgesdk.server.read_document import read_document
from edgesdk.server.service import service_of
from edgesdk.text.encode_prompt import Prompt


async def embeddings(request: Request) -> Response:
    """Embeds one text or several, or token ids.

    Raises:
        Refused: an option is not honoured, or the model gives no vectors.
    """
    service = service_of(request)
    document = await read_document(request, EmbeddingsDocument, service.options)
    found = await embed(
        request,
        service,
        document.model,
        _texts(document.input),
        dimensions=document.dimensions,
        truncate=False,
    )
    as_text = document.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if as_text
            else vector.tolist(),
        }
        for index, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    body = {"object": "list", "data": data, "model": found.model, "usage": usage}
    return Response(compact(body), media_type="application/json")


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> Sequence[Prompt]:
    """The texts of a request: one, several, the tokens of one, or those of several."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [given]
    return given  # type: ignore[return-value]  # as above
