"""`/api/chat`, `/api/generate`, `/api/tags`, `/api/version`: Ollama's API.

What it is for: its clients, on chat's machinery. What may not enter: its shapes (service.dialects.ollama).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.ollama import (
    OllamaChatReply,
    OllamaChatRequest,
    OllamaError,
    OllamaGenerateReply,
    OllamaGenerateRequest,
    OllamaTags,
    OllamaVersion,
)
from service import wishes
from service.desk import Visit, counted, house_of, receive, tenant_of, whole
from service.dialects.ollama import NAMES, OllamaVoice, chat_of, completion_of
from service.errors import Family, renaming
from service.gathering import gather
from service.generation import Generation, Prepared, Wish, beats, prepare
from service.house import VERSION
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended, line

router = APIRouter(tags=["Ollama"])

EXAMPLE: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is the sky blue?"}],
    "format": {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]},
    "options": {"num_predict": 32},
    "stream": False,
}


@router.post(
    "/api/chat",
    **DOCUMENTED.route(
        OllamaChatReply, lines=OllamaChatReply, body=OllamaChatRequest, error=OllamaError, example=EXAMPLE
    ),
)
async def chat(request: Request) -> Response:
    """Answers a conversation, in lines unless `stream` is false."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(OllamaChatRequest)
        model = visit.house.model_named(body.model)
        with renaming(NAMES):
            wish = await wishes.of_chat(visit.house, chat_of(body), visit.tenant)
        return await _answer(visit, body, wish, model)

    return await receive(request, work)


@router.post(
    "/api/generate",
    **DOCUMENTED.route(
        OllamaGenerateReply,
        lines=OllamaGenerateReply,
        body=OllamaGenerateRequest,
        error=OllamaError,
        example={"prompt": "Hi"},
    ),
)
async def generate(request: Request) -> Response:
    """Answers one prompt; with `raw` continues it as it is."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(OllamaGenerateRequest)
        model = visit.house.model_named(body.model)
        with renaming(NAMES):
            if body.raw:
                (wish,) = await wishes.of_completion(visit.house, completion_of(body), visit.tenant)
            else:
                wish = await wishes.of_chat(visit.house, chat_of(body), visit.tenant)
        return await _answer(visit, body, wish, model)

    return await receive(request, work)


async def _answer(visit: Visit, body: OllamaChatRequest | OllamaGenerateRequest, wish: Wish, model: str) -> Response:
    with renaming(NAMES):
        prepared = await attended(visit.request, prepare(visit.house, wish, "ollama-"))
    chat = isinstance(body, OllamaChatRequest)
    voice = OllamaVoice(prepared, visit.house.tokenizer, model, chat, bool(body.logprobs or body.top_logprobs))
    if body.stream is not False:
        return await visit.stream(_lines(visit, prepared, voice), Family.OLLAMA)

    async def answer(generation: Generation) -> Response:
        (told,) = await gather(generation)
        return JsonReply(voice.reply(told.pieces, generation.summary))

    return await whole(visit, prepared, answer)


async def _lines(visit: Visit, prepared: Prepared, voice: OllamaVoice) -> AsyncGenerator[bytes, None]:
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            if piece is not None:  # lines of JSON know no comments
                for each in voice.lines(piece, generation.summary):
                    yield line(each)


@router.get("/api/tags", **DOCUMENTED.route(OllamaTags, error=OllamaError))
async def tags(request: Request) -> Response:
    """The names under which the model is served."""
    tenant_of(request)
    house = house_of(request)
    info = house.engine.info
    since = datetime.fromtimestamp(house.started_at, UTC).isoformat()
    level = info.quantize or info.dtype
    details = {"family": info.model_type, "parameter_size": str(info.parameters), "quantization_level": level}
    models = [
        {"name": name, "model": name, "modified_at": since, "size": 0, "digest": house.fingerprint, "details": details}
        for name in house.settings.model_names
    ]
    return JsonReply({"models": models})


@router.get("/api/version", **DOCUMENTED.route(OllamaVersion))
async def version(request: Request) -> Response:
    """The version of this service."""
    tenant_of(request)
    return JsonReply({"version": VERSION})
