"""Ollama's `/api/tags`, `/api/ps`, `/api/show` and `/api/version`."""

from __future__ import annotations

import datetime
from contextlib import suppress

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edgesdk.bundle.reader import Bundle, open_bundle
from edgesdk.errors import EdgeError, first_line
from edgesdk.server.log import LOG
from edgesdk.server.ollama.documents import ShowDocument
from edgesdk.server.read_document import read_document
from edgesdk.server.refusal import Refused
from edgesdk.server.service import service_of
from edgesdk.text.abilities import find_abilities
from edgesdk.text.read_chat_template import read_chat_template

VERSION = "0.12.0"
"""Of the interface that is spoken: clients look at it before they use what is newer."""


async def tags(request: Request) -> Response:
    """Lists the models; one that goes meanwhile, or is damaged, is left out."""
    host = service_of(request).host
    listed = []
    for name in host.names:
        try:
            listed.append(_listed(name, open_bundle(host.path(name))))
        except (Refused, EdgeError) as error:
            LOG.warning("left %s out of a list: %s", name, first_line(error))
    return JSONResponse({"models": listed})


async def loaded(request: Request) -> Response:
    """Lists the models in memory, also those that have left the shelf since."""
    return JSONResponse(
        {
            "models": [
                {
                    **_listed(each.name, each.engine.model.bundle),
                    "size_vram": 0,
                    "context_length": each.engine.model.context,
                }
                for each in service_of(request).host.loaded
            ]
        }
    )


async def show(request: Request) -> Response:
    """Says what a model is, and what its chat template provides for.

    Raises:
        Refused: there is none of that name.
    """
    service = service_of(request)
    document = await read_document(request, ShowDocument, service.options)
    name = service.host.known(document.model or document.name)
    bundle = open_bundle(service.host.path(name))
    manifest = bundle.manifest
    family = manifest.decoder.architecture
    context = max((variant.context for variant in manifest.variants), default=0)
    abilities = await anyio.to_thread.run_sync(find_abilities, bundle)  # renders the template
    template = read_chat_template(bundle)
    return JSONResponse(
        {
            "details": _details(bundle),
            "model_info": {"general.architecture": family, f"{family}.context_length": context},
            "capabilities": [
                "completion",
                *(each for each in ("tools", "thinking") if abilities[each] is not None),
            ]
            if manifest.decoder.is_causal
            else ["embedding"],
            "template": "" if template is None else template.source,
            "license": manifest.licence or "",
        }
    )


async def version(request: Request) -> Response:
    """The version of the interface."""
    return JSONResponse({"version": VERSION})


def _listed(name: str, bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    record: dict[str, object] = {
        "name": name,
        "model": name,
        "size": sum(file.size_bytes for file in manifest.files.values()),
        "digest": next((each.numbers for each in manifest.variants if each.numbers), ""),
        "details": _details(bundle),
    }
    with suppress(OSError):  # a model in memory may have left the disk
        changed = datetime.datetime.fromtimestamp(bundle.path.stat().st_mtime, datetime.UTC)
        record["modified_at"] = changed.isoformat()
    return record


def _details(bundle: Bundle) -> dict[str, object]:
    family = bundle.manifest.decoder.architecture
    first = next(iter(bundle.manifest.variants), None)
    return {
        "parent_model": "",
        "format": "" if first is None else first.format,
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "" if first is None else first.recipe,
    }
