"""TGI's native routes: `/generate`, `/generate_stream`, `/`, `/info`, `/chat_tokenize`.

What it is for: clients of text-generation-inference. What may not enter: its shapes (service.dialects.tgi).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.chat import ChatChunk, ChatCompletion, ChatRequest
from schemas.completions import Completion, CompletionRequest
from schemas.errors import TgiError
from schemas.peers import SglangReply, SglangRequest
from schemas.tgi import ChatTokenizeReply, GenerateReply, GenerateRequest, Info, StreamEvent
from service import wishes
from service.accounts import compute_type
from service.body import parse
from service.desk import Visit, counted, house_of, receive, tenant_of, whole
from service.dialects.tgi import TgiVoice, text_tokens
from service.errors import Family, InvalidBody
from service.gathering import gather
from service.generation import Generation, Prepared, beats, prepare
from service.house import VERSION
from service.openapi import DOCUMENTED
from service.routes.chat import answer_chat
from service.routes.completions import answer_completion
from service.routes.peers import sglang_generate
from service.streaming import HEARTBEAT, JsonReply, attended, event

router = APIRouter(tags=["TGI"])

EXAMPLE: dict[str, Any] = {
    "inputs": "The colour of the sky: ",
    "parameters": {"max_new_tokens": 16, "grammar": {"type": "regex", "value": "(blue|grey|black)"}, "details": True},
}


@router.post(
    "/generate",
    **DOCUMENTED.route(
        GenerateReply,
        SglangReply,
        arrays=[SglangReply],
        body=[GenerateRequest, SglangRequest],
        event=SglangReply,
        error=TgiError,
        example=EXAMPLE,
    ),
)
async def generate(request: Request) -> Response:
    """Continues a text. A body with `text` or `input_ids` in place of `inputs` is SGLang's, and is answered as its."""

    async def work(visit: Visit) -> Response:
        value = await visit.json()
        if isinstance(value, dict) and "inputs" not in value and {"text", "input_ids"} & set(value):
            return await sglang_generate(visit, parse(value, SglangRequest))
        return await _generate(visit, parse(value, GenerateRequest), array=False)

    return await receive(request, work)


@router.post(
    "/invocations",
    **DOCUMENTED.route(
        ChatCompletion,
        Completion,
        arrays=[GenerateReply],
        body=[GenerateRequest, ChatRequest, CompletionRequest],
        event=[StreamEvent, ChatChunk, Completion],
        error=TgiError,
        example=EXAMPLE,
    ),
)
async def invocations(request: Request) -> Response:
    """SageMaker's one route: a body with `messages` is a chat request, one with `prompt` a completion, else TGI's."""

    async def work(visit: Visit) -> Response:
        value = await visit.json()
        known = set(value) if isinstance(value, dict) else set()
        if "messages" in known:
            return await answer_chat(visit, parse(value, ChatRequest))
        if "prompt" in known:
            return await answer_completion(visit, parse(value, CompletionRequest))
        body = parse(value, GenerateRequest)
        return await (_stream(visit, body) if body.stream else _generate(visit, body, array=True))

    return await receive(request, work)


@router.post(
    "/generate_stream",
    **DOCUMENTED.route(StreamEvent, body=GenerateRequest, error=TgiError, event=StreamEvent, example=EXAMPLE),
)
async def generate_stream(request: Request) -> Response:
    """Continues a text, one event a token."""

    async def work(visit: Visit) -> Response:
        return await _stream(visit, await visit.body(GenerateRequest))

    return await receive(request, work)


@router.post(
    "/",
    **DOCUMENTED.route(
        arrays=[GenerateReply], body=GenerateRequest, error=TgiError, event=StreamEvent, example=EXAMPLE
    ),
)
async def compat_generate(request: Request) -> Response:
    """As `/generate` with an array for an answer, or, with `stream: true`, as `/generate_stream`."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(GenerateRequest)
        return await (_stream(visit, body) if body.stream else _generate(visit, body, array=True))

    return await receive(request, work)


@router.get("/info", **DOCUMENTED.route(Info))
async def info(request: Request) -> Response:
    """What is served, and its limits."""
    tenant_of(request)
    house = house_of(request)
    settings = house.settings
    limit = house.context_length
    return JsonReply(
        {
            "model_id": settings.model_names[0],
            "model_sha": settings.revision or None,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": settings.max_concurrent_requests,
            "max_best_of": settings.max_n,
            "max_stop_sequences": settings.max_stop_sequences,
            "max_input_tokens": settings.max_input_tokens or limit - 1,
            "max_total_tokens": limit,
            "validation_workers": 1,
            "max_client_batch_size": settings.max_n,
            "router": "formwork",
            "version": VERSION,
            "sha": None,
            "docker_label": None,
        }
    )


@router.post("/chat_tokenize", **DOCUMENTED.route(ChatTokenizeReply, body=ChatRequest, error=TgiError))
async def chat_tokenize(request: Request) -> Response:
    """A conversation as the model reads it."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(ChatRequest)
        conversation = wishes.chat_conversation(visit.house, body, visit.tenant)
        tokens = await wishes.spelled(visit.house, conversation)
        shown = await asyncio.to_thread(text_tokens, visit.house.tokenizer, tokens)
        rendered = await asyncio.to_thread(visit.house.chat_template().render, conversation)
        return JsonReply({"tokenize_response": shown, "templated_text": rendered})

    return await receive(request, work)


async def _prepared(visit: Visit, body: GenerateRequest) -> Prepared:
    wish = await wishes.of_tgi(visit.house, body, visit.tenant)
    return await attended(visit.request, prepare(visit.house, wish, "tgi-"))


async def _generate(visit: Visit, body: GenerateRequest, *, array: bool) -> Response:
    prepared = await _prepared(visit, body)
    voice = TgiVoice(body, visit.house.tokenizer)

    async def answer(generation: Generation) -> Response:
        told = await gather(generation)
        reply = voice.reply(prepared, generation.summary, told)
        return JsonReply([reply] if array else reply)

    return await whole(visit, prepared, answer)


async def _stream(visit: Visit, body: GenerateRequest) -> Response:
    if (body.parameters.best_of or 1) > 1:
        raise InvalidBody("`best_of` != 1 is not supported when streaming tokens", param="parameters.best_of")
    if body.parameters.decoder_input_details:
        raise InvalidBody(
            "`decoder_input_details` == true is not supported when streaming tokens",
            param="parameters.decoder_input_details",
        )
    prepared = await _prepared(visit, body)
    response = await visit.stream(_events(visit, prepared, TgiVoice(body, visit.house.tokenizer)), Family.TGI)
    response.headers["x-compute-type"] = compute_type(visit.house)
    response.headers["x-compute-characters"] = str(prepared.wish.characters)
    return response


async def _events(visit: Visit, prepared: Prepared, voice: TgiVoice) -> AsyncGenerator[bytes, None]:
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            if piece is None:
                yield HEARTBEAT
                continue
            for each in voice.events(piece, prepared, generation.summary):
                yield event(each, gap=b"")
