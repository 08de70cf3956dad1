"""`POST /v1/responses`.

What it is for: OpenAI's Responses, on chat's machinery. What may not enter: its shapes (service.dialects.responses).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import OpenAIError
from schemas.responses import ResponseEvent, ResponseObject, ResponsesRequest
from service import wishes
from service.desk import Visit, counted, receive, report, whole
from service.dialects.responses import NAMES, Event, ResponsesVoice, chat_of, error_event
from service.errors import Family, renaming
from service.generation import Generation, Prepared, beats, prepare
from service.openapi import DOCUMENTED
from service.streaming import HEARTBEAT, JsonReply, attended, event
from service.text import Piece

router = APIRouter(tags=["OpenAI"])

EXAMPLE: dict[str, Any] = {
    "input": "Extract the person: Maria Silva is 34 years old.",
    "max_output_tokens": 64,
    "text": {
        "format": {
            "type": "json_schema",
            "name": "person",
            "schema": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name", "age"],
                "additionalProperties": False,
            },
        }
    },
}


@router.post(
    "/v1/responses",
    **DOCUMENTED.route(ResponseObject, body=ResponsesRequest, error=OpenAIError, event=ResponseEvent, example=EXAMPLE),
)
async def responses(request: Request) -> Response:
    """Answers a conversation of items; nothing is stored."""
    return await receive(request, _responses)


async def _responses(visit: Visit) -> Response:
    house = visit.house
    body = await visit.body(ResponsesRequest)
    model = house.model_named(body.model)
    with renaming(NAMES):
        wish = await wishes.of_chat(house, chat_of(body), visit.tenant)
        prepared = await attended(visit.request, prepare(house, wish, "resp_"))
    wanted = bool(body.top_logprobs) or "message.output_text.logprobs" in (body.include or ())
    logprobs = house.settings.logprobs or wanted
    voice = ResponsesVoice(body, prepared, house.tokenizer, model, int(time.time()), logprobs)
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice), Family.OPENAI)

    async def answer(generation: Generation) -> Response:
        last: Piece | None = None
        async with generation:
            while (piece := await generation.next()) is not None:
                voice.events(piece)
                last = piece
        assert last is not None
        *_, end = voice.closing(last, generation.summary, int(time.time()))
        return JsonReply(end["response"])

    return await whole(visit, prepared, answer)


async def _events(visit: Visit, prepared: Prepared, voice: ResponsesVoice) -> AsyncGenerator[bytes, None]:
    number = -1
    try:
        async with counted(visit, prepared) as generation:
            async for piece in beats(generation, visit.house.settings.heartbeat_s):
                if piece is None:
                    yield HEARTBEAT
                    continue
                told = [*(voice.opening() if number < 0 else ()), *voice.events(piece)]
                if piece.finish is not None:
                    told += voice.closing(piece, generation.summary, int(time.time()))
                for each in told:
                    number = each["sequence_number"]
                    yield _named(each)
    except Exception as error:  # this dialect's error event is of its own shape
        if number < 0:  # nothing was told yet: the error still has its status
            raise
        yield _named(error_event(report(visit.house, error, Family.OPENAI).body, number + 1))


def _named(told: Event) -> bytes:
    return f"event: {told['type']}\n".encode() + event(told)
