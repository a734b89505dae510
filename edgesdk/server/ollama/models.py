"""Ollama's `/api/tags`, `/api/ps`, `/api/show` and `/api/version`."""

from __future__ import annotations

import datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesdk.bundle.reader import open_bundle
from edgesdk.server.ollama.documents import ShowDocument
from edgesdk.server.read_document import read_document
from edgesdk.server.service import Service, service_of

VERSION = "0.12.0"
"""Of the interface that is spoken: clients look at it before they use what is newer."""


async def tags(request: Request) -> Response:
    """Lists the models."""
    service = service_of(request)
    return JSONResponse({"models": [_listed(service, name) for name in service.host.names]})


async def loaded(request: Request) -> Response:
    """Lists the models in memory."""
    service = service_of(request)
    return JSONResponse(
        {
            "models": [
                {**_listed(service, each.name), "size_vram": 0, "context_length": each.engine.model.context}
                for each in service.host.loaded
            ]
        }
    )


async def show(request: Request) -> Response:
    """Says what a model is.

    Raises:
        Refused: there is none of that name.
    """
    service = service_of(request)
    document = await read_document(request, ShowDocument, service.options)
    name = service.host.known(document.model or document.name)
    listed = _listed(service, name)
    context = max((v.context for v in open_bundle(service.host.path(name)).manifest.variants), default=0)
    family = str(listed["details"]["family"]) if isinstance(listed["details"], dict) else ""
    info = {"general.architecture": family, f"{family}.context_length": context}
    return JSONResponse(
        {"details": listed["details"], "model_info": info, "capabilities": ["completion"], "template": ""}
    )


async def version(request: Request) -> Response:
    """The version of the interface."""
    return JSONResponse({"version": VERSION})


def _listed(service: Service, name: str) -> dict[str, object]:
    path: Path = service.host.path(name)
    manifest = open_bundle(path).manifest
    size = sum(record.size_bytes for record in manifest.files.values())
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    details = {
        "parent_model": "",
        "format": manifest.variants[0].format,
        "family": manifest.decoder.architecture,
        "families": [manifest.decoder.architecture],
        "parameter_size": "",
        "quantization_level": manifest.variants[0].recipe,
    }
    return {
        "name": name,
        "model": name,
        "modified_at": changed.isoformat(),
        "size": size,
        "digest": manifest.variants[0].numbers or "",
        "details": details,
    }
