"""Refusals as OpenAI's interface has them."""

from __future__ import annotations

from starlette.responses import JSONResponse

from edgesdk.server.refusal import Refused

_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_document(refused: Refused) -> dict[str, object]:
    """The body of a refusal, which is also the last event of a stream that fails."""
    kind = _KINDS.get(refused.status, "invalid_request_error" if refused.status < 500 else "server_error")
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}


def error_response(refused: Refused) -> JSONResponse:
    """A refusal."""
    return JSONResponse(error_document(refused), refused.status, retry_header(refused))


def retry_header(refused: Refused) -> dict[str, str] | None:
    """When to try again."""
    return None if refused.retry_after_s is None else {"Retry-After": str(refused.retry_after_s)}
