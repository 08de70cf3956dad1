"""`/v1beta/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens` and the models: Gemini's API.

What it is for: its clients, on chat's machinery. What may not enter: its shapes (service.dialects.gemini). Newer ones
call the same below `/v1`, where a list of models is OpenAI's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.gemini import (
    GeminiCountReply,
    GeminiCountRequest,
    GeminiError,
    GeminiModel,
    GeminiModels,
    GeminiReply,
    GeminiRequest,
    StreamQuery,
)
from service import wishes
from service.body import query
from service.desk import Visit, counted, house_of, receive, tenant_of, whole
from service.dialects.gemini import GeminiVoice, chat_of, names_of
from service.errors import Family, InvalidBody, renaming
from service.gathering import gather
from service.generation import Generation, Prepared, beats, prepare
from service.house import VERSION, House
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended, event

router = APIRouter(tags=["Gemini"])

BLANK = b"\n"  # a heartbeat: Google's own client takes a comment for a broken answer
EXAMPLE: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "Extract the person: Maria Silva is 34 years old."}]}],
    "generationConfig": {
        "temperature": 0,
        "maxOutputTokens": 64,
        "responseMimeType": "application/json",
        "responseSchema": {
            "type": "OBJECT",
            "properties": {"name": {"type": "STRING"}, "age": {"type": "INTEGER", "nullable": True}},
            "required": ["name", "age"],
            "propertyOrdering": ["name", "age"],
        },
    },
}


@router.post("/v1/models/{model:path}:generateContent", include_in_schema=False)
@router.post(
    "/v1beta/models/{model:path}:generateContent",
    **DOCUMENTED.route(GeminiReply, body=GeminiRequest, error=GeminiError, example=EXAMPLE),
)
async def generate_content(request: Request, model: str) -> Response:
    """Answers a conversation of contents."""

    async def work(visit: Visit) -> Response:
        prepared, voice = await _prepared(visit, model)

        async def answer(generation: Generation) -> Response:
            told = await gather(generation)
            return JsonReply(voice.reply(told, generation.summary))

        return await whole(visit, prepared, answer)

    return await receive(request, work)


@router.post("/v1/models/{model:path}:streamGenerateContent", include_in_schema=False)
@router.post(
    "/v1beta/models/{model:path}:streamGenerateContent",
    **DOCUMENTED.route(
        GeminiReply, body=GeminiRequest, error=GeminiError, event=GeminiReply, query=StreamQuery, example=EXAMPLE
    ),
)
async def stream_generate_content(request: Request, model: str) -> Response:
    """The same in events, with `alt=sse`."""

    async def work(visit: Visit) -> Response:
        query(request, StreamQuery)
        prepared, voice = await _prepared(visit, model)
        return await visit.stream(_events(visit, prepared, voice), Family.GEMINI)

    return await receive(request, work)


async def _prepared(visit: Visit, model: str) -> tuple[Prepared, GeminiVoice]:
    house = visit.house
    body = await visit.body(GeminiRequest)
    name = house.model_named(model)
    with renaming(names_of(body)):
        wish = await wishes.of_chat(house, chat_of(body, model), visit.tenant)
        prepared = await attended(visit.request, prepare(house, wish, "gemini-"))
    config = body.generation_config
    thinking = config.thinking_config if config else None
    logprobs = bool(config and config.response_logprobs)
    return prepared, GeminiVoice(
        prepared, house.tokenizer, name, logprobs, thoughts=bool(thinking and thinking.include_thoughts)
    )


async def _events(visit: Visit, prepared: Prepared, voice: GeminiVoice) -> AsyncGenerator[bytes, None]:
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            if piece is None:
                yield BLANK
            elif (told := voice.event(piece, generation.summary)) is not None:
                yield event(told)


@router.post("/v1/models/{model:path}:countTokens", include_in_schema=False)
@router.post(
    "/v1beta/models/{model:path}:countTokens",
    **DOCUMENTED.route(GeminiCountReply, body=GeminiCountRequest, error=GeminiError),
)
async def count_tokens(request: Request, model: str) -> Response:
    """The tokens of a prompt as `:generateContent` would send it to the model."""

    async def work(visit: Visit) -> Response:
        asked = await visit.body(GeminiCountRequest)
        visit.house.model_named(model)
        body = asked.generate_content_request
        if (body is None) == (asked.contents is None):
            raise InvalidBody("send exactly one of contents and generateContentRequest", param="contents")
        if body is None:
            body = GeminiRequest(contents=asked.contents or [])
        with renaming(names_of(body)):
            conversation = wishes.chat_conversation(visit.house, chat_of(body, model), visit.tenant)
        return JsonReply({"totalTokens": len(await wishes.spelled(visit.house, conversation))})

    return await receive(request, work)


@router.get("/v1beta/models", **DOCUMENTED.route(GeminiModels, error=GeminiError))
async def models(request: Request) -> Response:
    """The names under which the model is served."""
    tenant_of(request)
    house = house_of(request)
    return JsonReply({"models": [_model(house, name) for name in house.served_names]})


@router.get("/v1beta/models/{model:path}", **DOCUMENTED.route(GeminiModel, error=GeminiError))
async def one(request: Request, model: str) -> Response:
    """One of them."""
    tenant_of(request)
    house = house_of(request)
    return JsonReply(_model(house, house.model_named(model)))


def _model(house: House, name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "version": VERSION,
        "inputTokenLimit": house.context_length,
        "outputTokenLimit": house.context_length,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    }
