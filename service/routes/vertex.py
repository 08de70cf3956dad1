"""`POST /vertex`: Vertex AI's shape around TGI's and chat's bodies.

What it is for: several bodies in, their texts out. What may not enter: how a text is generated.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import TgiError
from schemas.tgi import VertexReply, VertexRequest
from service.desk import Visit, receive
from service.openapi import DOCUMENTED
from service.predictions import predicted
from service.streaming import JsonReply

router = APIRouter(tags=["TGI"])

EXAMPLE: dict[str, Any] = {"instances": [{"inputs": "The colour of the sky: ", "parameters": {"max_new_tokens": 4}}]}


@router.post("/vertex", **DOCUMENTED.route(VertexReply, body=VertexRequest, error=TgiError, example=EXAMPLE))
async def vertex(request: Request) -> Response:
    """Continues several texts or conversations; each prediction is a text."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(VertexRequest)
        instances = {f"instances.{place}": instance for place, instance in enumerate(body.instances)}
        return JsonReply({"predictions": await predicted(visit, instances, "vertex-")})

    return await receive(request, work)
