"""`GET /v1/models` and `/v1/models/{id}`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import OpenAIError
from schemas.models import Model, ModelList
from service.desk import house_of, tenant_of
from service.house import House
from service.openapi import DOCUMENTED
from service.streaming import JsonReply

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", **DOCUMENTED.route(ModelList, error=OpenAIError))
async def models(request: Request) -> Response:
    """The names under which the model is served."""
    tenant_of(request)
    house = house_of(request)
    return JsonReply({"object": "list", "data": [_model(house, name) for name in house.served_names]})


@router.get("/v1/models/{model_id:path}", **DOCUMENTED.route(Model, error=OpenAIError))
async def model(request: Request, model_id: str) -> Response:
    """One of them."""
    tenant_of(request)
    house = house_of(request)
    return JsonReply(_model(house, house.model_named(model_id)))


def _model(house: House, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": house.started_at,
        "owned_by": "formwork",
        "max_model_len": house.context_length,
        **({"parent": house.settings.model_names[0]} if name in house.adapters else {}),
    }
