"""`POST /v1/watermark/detect`.

What it is for: was this text made here? With the constraint it was made under, the grammar is replayed and only free
choices are scored. What may not enter: the statistics (watermark/), the replay (engine.marking).
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.base import FormworkRequest
from schemas.errors import OpenAIError
from schemas.watermark import DetectReply, DetectRequest
from service import constraints, wishes
from service.desk import Visit, body_of, receive
from service.errors import InvalidBody
from service.marking import positions_of
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended
from watermark import UnknownKey

router = APIRouter(tags=["Formwork"])

EXAMPLE: dict[str, Any] = {"text": "A text that may have been made here.", "response_format": {"type": "text"}}


@router.post(
    "/v1/watermark/detect", **DOCUMENTED.route(DetectReply, body=DetectRequest, error=OpenAIError, example=EXAMPLE)
)
async def detect(request: Request) -> Response:
    """The chance that unmarked text would look as marked as this one, over all keys of the server."""

    async def work(visit: Visit) -> Response:
        body = await body_of(request, DetectRequest)
        return JsonReply(await attended(request, _detection(visit, body)))

    return await receive(request, work)


async def _detection(visit: Visit, body: DetectRequest) -> dict[str, Any]:
    house, marker = visit.house, visit.house.marker
    house.model_named(body.model)
    constraint = constraints.of_response_format(body.response_format, body.formwork or FormworkRequest())
    compiled = await house.compiler.compile(constraint) if constraint else None
    tokens = body.token_ids
    if tokens is None:
        tokens = await wishes.encode(house, body.text or "", special=False)
    if bad := next((token for token in tokens if token >= house.engine.info.vocab_size), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary", param="token_ids")
    replayed = await house.compiler.replay(compiled, tokens, marker.context)
    if replayed.illegal is not None:
        raise InvalidBody(
            f"this text does not satisfy the constraint: token {replayed.illegal} is not legal there",
            param="text" if body.token_ids is None else "token_ids",
        )
    try:
        positions = positions_of(replayed.choices)
        found = await asyncio.to_thread(marker.detect, positions, visit.tenant or None, body.key_id)
    except UnknownKey as error:
        raise InvalidBody(str(error), param="key_id") from None
    return {
        "watermarked": found.adjusted <= marker.threshold,
        "p_value": found.adjusted,
        "threshold": marker.threshold,
        "scheme": found.scheme,
        "key_id": found.key_id,
        "eligible": found.eligible,
        "scored": found.scored,
        "statistic": found.statistic,
        "tokens": len(tokens),
        "canonical": body.token_ids is not None,
    }
