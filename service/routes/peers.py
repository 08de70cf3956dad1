"""llama.cpp's `/completion`, and the part of `/generate` that speaks SGLang's dialect.

What it is for: people who come from there. What may not enter: the shapes (service.dialects.peers).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import OpenAIError
from schemas.peers import LlamaReply, LlamaRequest, SglangRequest
from service import wishes
from service.desk import Visit, counted, receive, whole
from service.dialects.peers import (
    LLAMA_NAMES,
    SGLANG_NAMES,
    LlamaVoice,
    SglangVoice,
    completion_of_llama,
    completion_of_sglang,
)
from service.errors import Family, renaming
from service.gathering import gather
from service.generation import Generation, Prepared, Summary, beats, prepare
from service.openapi import DOCUMENTED
from service.streaming import DONE, HEARTBEAT, JsonReply, attended, event
from service.text import Piece

router = APIRouter(tags=["llama.cpp"])

EXAMPLE: dict[str, Any] = {
    "prompt": "A number: ",
    "n_predict": 16,
    "json_schema": {"type": "integer", "minimum": 0, "maximum": 9},
}


@router.post(
    "/completion",
    **DOCUMENTED.route(LlamaReply, body=LlamaRequest, error=OpenAIError, event=LlamaReply, example=EXAMPLE),
)
async def completion(request: Request) -> Response:
    """Continues a text, in llama.cpp's words."""
    return await receive(request, _completion)


async def _completion(visit: Visit) -> Response:
    house = visit.house
    body = await visit.body(LlamaRequest)
    model = house.model_named(body.model)
    with renaming(LLAMA_NAMES):
        (wish,) = await wishes.of_completion(house, completion_of_llama(body), visit.tenant)
        prepared = await attended(visit.request, prepare(house, wish, "llama-"))
    voice = LlamaVoice(body, prepared, house.tokenizer, model)
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice.event), Family.OPENAI)

    async def answer(generation: Generation) -> Response:
        (told,) = await gather(generation)
        return JsonReply(voice.reply(told, generation.summary))

    return await whole(visit, prepared, answer)


async def sglang_generate(visit: Visit, body: SglangRequest) -> Response:
    """`/generate` with `text` or `input_ids`."""
    house = visit.house
    house.model_named(body.model)
    with renaming(SGLANG_NAMES):
        (wish,) = await wishes.of_completion(house, completion_of_sglang(body), visit.tenant)
        if body.sampling_params and body.sampling_params.no_stop_trim:
            wish = replace(wish, keep_stop=True)
        prepared = await attended(visit.request, prepare(house, wish, "sglang-"))
    voice = SglangVoice(body, prepared, house.tokenizer)
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice.event, DONE), Family.OPENAI)

    async def answer(generation: Generation) -> Response:
        told = await gather(generation)
        return JsonReply(voice.reply(told, generation.summary))

    return await whole(visit, prepared, answer)


async def _events(
    visit: Visit, prepared: Prepared, told: Callable[[Piece, Summary], dict[str, Any]], last: bytes = b""
) -> AsyncGenerator[bytes, None]:
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            yield HEARTBEAT if piece is None else event(told(piece, generation.summary))
    if last:
        yield last
