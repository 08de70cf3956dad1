"""`POST /v1/chat/completions`.

What it is for: an OpenAI chat request becomes a wish, pieces become a completion or its chunks. What may not enter: how
either is done elsewhere (generation, dialects).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.chat import ChatChunk, ChatCompletion, ChatRequest
from schemas.errors import OpenAIError
from service import wishes
from service.desk import Visit, counted, receive, whole
from service.dialects.openai import ChatVoice, Head
from service.errors import Family
from service.gathering import gather
from service.generation import Generation, Prepared, beats, prepare
from service.openapi import DOCUMENTED
from service.settings import Settings
from service.streaming import DONE, HEARTBEAT, JsonReply, attended, event

router = APIRouter(tags=["OpenAI"])

EXAMPLE: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Extract the person: Maria Silva is 34 years old and lives in Porto."},
    ],
    "temperature": 0,
    "max_tokens": 64,
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "person",
            "schema": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": "integer"},
                    "city": {"type": "string"},
                },
                "required": ["name", "age", "city"],
                "additionalProperties": False,
            },
        },
    },
}


@router.post(
    "/v1/chat/completions",
    summary="Chat completion",
    **DOCUMENTED.route(ChatCompletion, body=ChatRequest, error=OpenAIError, event=ChatChunk, example=EXAMPLE),
)
async def chat_completions(request: Request) -> Response:
    """Answers a conversation; under `response_format` the answer conforms, complete and inside the token budget."""
    return await receive(request, _chat)


async def _chat(visit: Visit) -> Response:
    return await answer_chat(visit, await visit.body(ChatRequest))


async def answer_chat(visit: Visit, body: ChatRequest) -> Response:
    """The answer to a chat request, streamed if it says so."""
    house = visit.house
    model = house.model_named(body.model)
    wish = await wishes.of_chat(house, body, visit.tenant)
    prepared = await attended(visit.request, prepare(house, wish, "chatcmpl-"))
    options = body.stream_options
    voice = ChatVoice(
        Head(prepared.id, int(time.time()), model, house.fingerprint),
        house.tokenizer,
        prepared,
        logprobs=_tells_logprobs(house.settings, body),
        include_usage=bool(options and options.include_usage),
        events=wish.options.events is not None,
        legacy=body.functions is not None,
    )
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice), Family.OPENAI)

    async def answer(generation: Generation) -> Response:
        told = await gather(generation)
        return JsonReply(voice.completion(generation.summary, told))

    return await whole(visit, prepared, answer)


def _tells_logprobs(settings: Settings, body: ChatRequest) -> bool:
    """As the request says; who asks for alternatives asks for log-probs; else as the server is set."""
    return (settings.logprobs or bool(body.top_logprobs)) if body.logprobs is None else body.logprobs


async def _events(visit: Visit, prepared: Prepared, voice: ChatVoice) -> AsyncGenerator[bytes, None]:
    opened: set[int] = set()
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            if piece is None:
                yield HEARTBEAT
                continue
            if piece.index not in opened:
                opened.add(piece.index)
                yield event(voice.opening(piece.index))
            if (chunk := voice.chunk(piece)) is not None:
                yield event(chunk)
            if piece.finish is not None:
                yield event(voice.closing(piece.index, piece.finish))
        if voice.include_usage:
            yield event(voice.usage_chunk(generation.summary))
    yield DONE
