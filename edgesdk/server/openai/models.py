"""`GET /v1/models` and `/v1/models/NAME`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edgesdk.bundle.records import to_json
from edgesdk.server.event_stream import compact
from edgesdk.server.service import Service, service_of


async def models(request: Request) -> Response:
    """Lists what may be asked for."""
    service = service_of(request)
    there = await service.host.all_adapters()
    listed = [_record(service, name, one) for name, adapters in there.items() for one in (None, *adapters)]
    return Response(compact({"object": "list", "data": listed}), media_type="application/json")


async def model(request: Request) -> Response:
    """One of them; where it is loaded, also what runs it.

    Raises:
        Refused: there is none of that name.
    """
    service = service_of(request)
    name, adapter = service.host.find(request.path_params["name"])
    return Response(compact(_record(service, name, adapter)), media_type="application/json")


def _record(service: Service, name: str, adapter: str | None) -> dict[str, object]:
    asked = name if adapter is None else f"{name}:{adapter}"
    record: dict[str, object] = {"id": asked, "object": "model", "created": 0, "owned_by": "local"}
    loaded = next((each for each in service.host.loaded if each.name == name), None)
    record["loaded"] = loaded is not None
    if loaded is not None:
        opened = loaded.engine.model
        record["context"] = opened.context
        record["receipt"] = to_json(opened.receipt)
    return record
