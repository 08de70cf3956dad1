"""`POST /v1/messages` and `/v1/messages/count_tokens`.

What it is for: Anthropic's Messages, on chat's machinery. What may not enter: its shapes (service.dialects.anthropic).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.chat import ChatRequest
from schemas.messages import AnthropicError, CountReply, CountRequest, MessageEvent, MessageReply, MessagesRequest
from service import wishes
from service.desk import Visit, counted, receive, whole
from service.dialects.anthropic import NAMES, MessagesVoice, chat_of, prompt_of
from service.dialects.asking import translated
from service.errors import Family, NoThreads, renaming
from service.gathering import gather
from service.generation import Generation, Prepared, beats, prepare
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended, event

router = APIRouter(tags=["Anthropic"])

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
EXAMPLE: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the weather in Porto?"}],
    "max_tokens": 96,
    "tools": [
        {
            "name": "get_weather",
            "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }
    ],
    "tool_choice": {"type": "any"},
}


@router.post(
    "/v1/messages",
    **DOCUMENTED.route(MessageReply, body=MessagesRequest, error=AnthropicError, event=MessageEvent, example=EXAMPLE),
)
async def messages(request: Request) -> Response:
    """Answers a conversation of turns and blocks."""
    return await receive(request, _messages)


async def _messages(visit: Visit) -> Response:
    house = visit.house
    body = await visit.body(MessagesRequest)
    model = house.model_named(body.model)
    if body.thread is not None:
        raise NoThreads("no conversation is held here; send all of its messages", param="thread")
    with renaming(NAMES):
        wish = await wishes.of_chat(house, chat_of(body), visit.tenant)
        prepared = await attended(visit.request, prepare(house, wish, "msg_"))
    omits = body.thinking is not None and body.thinking.display == "omitted"
    voice = MessagesVoice(prepared, model, omits_thinking=omits)
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice), Family.ANTHROPIC)

    async def answer(generation: Generation) -> Response:
        (told,) = await gather(generation)
        return JsonReply(voice.reply(told.pieces, told.finish, generation.summary))

    return await whole(visit, prepared, answer)


async def _events(visit: Visit, prepared: Prepared, voice: MessagesVoice) -> AsyncGenerator[bytes, None]:
    begun = False
    async with counted(visit, prepared) as generation:
        async for piece in beats(generation, visit.house.settings.heartbeat_s):
            if piece is None:
                yield PING
                continue
            told = [*(() if begun else voice.opening(generation.summary)), *voice.events(piece)]
            begun = True
            if piece.finish is not None:
                told += voice.closing(piece.finish, generation.summary)
            for each in told:
                yield f"event: {each['type']}\n".encode() + event(each)


@router.post(
    "/v1/messages/count_tokens",
    **DOCUMENTED.route(CountReply, body=CountRequest, error=AnthropicError),
)
async def count_tokens(request: Request) -> Response:
    """The tokens of a prompt as `/v1/messages` would send it to the model."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(CountRequest)
        visit.house.model_named(body.model)
        with renaming(NAMES):
            chat = translated(prompt_of(body), None, ChatRequest)
            conversation = wishes.chat_conversation(visit.house, chat, visit.tenant)
        return JsonReply({"input_tokens": len(await wishes.spelled(visit.house, conversation))})

    return await receive(request, work)
