"""`POST /v1/responses`, and the responses that were stored.

What it is for: OpenAI's Responses, on chat's machinery. What may not enter: its shapes (service.dialects.responses,
service.dialects.items), where responses are kept (service.archive).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.chat import ChatRequest
from schemas.errors import OpenAIError
from schemas.responses import (
    InputItem,
    InputItems,
    InputItemsQuery,
    Prompted,
    ResponseDeleted,
    ResponseEvent,
    ResponseObject,
    ResponsesRequest,
    ResponseTokens,
    RetrieveQuery,
    TokensRequest,
)
from service import wishes
from service.archive import Entry
from service.body import query
from service.desk import Visit, counted, house_of, off_loop, receive, report, tenant_of, whole
from service.dialects import items
from service.dialects.asking import translated
from service.dialects.items import items_of, kept
from service.dialects.responses import NAMES, Event, ResponsesVoice, chat_of, error_event, prompt_of
from service.errors import ConversationNotFound, Family, InvalidBody, NotFound, renaming
from service.generation import Generation, Prepared, Summary, beats, prepare
from service.house import House
from service.openapi import DOCUMENTED
from service.streaming import HEARTBEAT, JsonReply, attended, event
from service.text import Piece

router = APIRouter(tags=["OpenAI"])

_End = Callable[[Piece, Summary], list[Event]]
_UNKNOWN = "no response is stored under the id"

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
    """Answers a conversation of items; `previous_response_id` goes on from one that was stored."""
    return await receive(request, _responses)


async def _responses(visit: Visit) -> Response:
    house = visit.house
    body = await visit.body(ResponsesRequest)
    model = house.model_named(body.model)
    earlier = _earlier(house, visit.tenant, body)
    conversation = await _conversation(earlier, body)
    with renaming(NAMES):
        wish = await wishes.of_chat(house, chat_of(body, conversation), visit.tenant)
        prepared = await attended(visit.request, prepare(house, wish, "resp_"))
    wanted = bool(body.top_logprobs) or "message.output_text.logprobs" in (body.include or ())
    logprobs = house.settings.logprobs or wanted
    stored = house.archive.keeps and body.store is not False
    voice = ResponsesVoice(body, prepared, house.tokenizer, model, int(time.time()), logprobs, stored)

    def told(piece: Piece, summary: Summary) -> list[Event]:
        """The end, kept before anyone hears of it: who knows the id may go on from it."""
        events = voice.closing(piece, summary, int(time.time()))
        if stored:
            response = events[-1]["response"]
            response["store"] = house.archive.put(visit.tenant, prepared.id, kept(response, earlier, items_of(body)))
        return events

    if body.stream:
        return await visit.stream(_events(visit, prepared, voice, told), Family.OPENAI)

    async def answer(generation: Generation) -> Response:
        last: Piece | None = None
        async with generation:
            while (piece := await generation.next()) is not None:
                voice.events(piece)
                last = piece
        assert last is not None
        return JsonReply(told(last, generation.summary)[-1]["response"])

    return await whole(visit, prepared, answer)


def _earlier(house: House, tenant: str, body: Prompted) -> Entry | None:
    """What the request goes on from; raises InvalidBody where that is not kept."""
    if body.previous_response_id is None:
        return None
    if not house.archive.keeps:
        raise InvalidBody(
            "nothing is stored here (response_store_bytes): send the conversation itself in `input`",
            param="previous_response_id",
        )
    entry = house.archive.find(tenant, body.previous_response_id)
    if entry is None:
        raise ConversationNotFound(f"{_UNKNOWN} {body.previous_response_id!r}", param="previous_response_id")
    return entry


async def _conversation(earlier: Entry | None, body: Prompted) -> list[InputItem]:
    """All that was said: what the request goes on from, and what it says itself."""
    if earlier is None:
        return list(items_of(body))
    return [*await off_loop(earlier.nbytes, lambda: items.conversation(earlier)), *items_of(body)]


@router.post("/v1/responses/input_tokens", **DOCUMENTED.route(ResponseTokens, body=TokensRequest, error=OpenAIError))
async def input_tokens(request: Request) -> Response:
    """The tokens of a prompt as `/v1/responses` would send it to the model."""

    async def work(visit: Visit) -> Response:
        body, house = await visit.body(TokensRequest), visit.house
        house.model_named(body.model)
        asked = prompt_of(body, await _conversation(_earlier(house, visit.tenant, body), body))
        with renaming(NAMES):
            chat = translated(asked, None, ChatRequest)
            conversation = wishes.chat_conversation(house, chat, visit.tenant)
        count = len(await wishes.spelled(house, conversation))
        return JsonReply({"object": "response.input_tokens", "input_tokens": count})

    return await receive(request, work)


@router.get("/v1/responses/{response_id}", **DOCUMENTED.route(ResponseObject, query=RetrieveQuery, error=OpenAIError))
async def retrieve(request: Request, response_id: str) -> Response:
    """A stored response."""
    entry = _entry(request, response_id)
    query(request, RetrieveQuery)
    return Response(entry.response, media_type="application/json")


@router.delete("/v1/responses/{response_id}", **DOCUMENTED.route(ResponseDeleted, error=OpenAIError))
async def delete(request: Request, response_id: str) -> Response:
    """Forgets a stored response; those that went on from it hold its part of their conversation themselves."""
    _entry(request, response_id)
    house_of(request).archive.drop(tenant_of(request), response_id)
    return JsonReply({"id": response_id, "object": "response", "deleted": True})


@router.get(
    "/v1/responses/{response_id}/input_items",
    **DOCUMENTED.route(InputItems, query=InputItemsQuery, error=OpenAIError),
)
async def input_items(request: Request, response_id: str) -> Response:
    """What a stored response answered, earlier turns of its conversation included."""
    entry = _entry(request, response_id)
    asked = query(request, InputItemsQuery)
    found = items.listed(entry)
    if asked.order == "desc":
        found.reverse()
    ids = [each["id"] for each in found]
    if asked.after is not None:
        if asked.after not in ids:
            raise InvalidBody(f"no item of this response has the id {asked.after!r}", param="after")
        found = found[ids.index(asked.after) + 1 :]
    page = found[: asked.limit]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return JsonReply({"object": "list", "data": page, **ends, "has_more": len(page) < len(found)})


def _entry(request: Request, response_id: str) -> Entry:
    """What the key that asks has stored under this id."""
    tenant, archive = tenant_of(request), house_of(request).archive
    entry = archive.find(tenant, response_id)
    if entry is None:
        why = "" if archive.keeps else "; nothing is stored here (response_store_bytes)"
        raise NotFound(f"{_UNKNOWN} {response_id[:128]!r}{why}")
    return entry


async def _events(visit: Visit, prepared: Prepared, voice: ResponsesVoice, end: _End) -> AsyncGenerator[bytes, None]:
    number = -1
    try:
        async with counted(visit, prepared) as generation:
            async for piece in beats(generation, visit.house.settings.heartbeat_s):
                if piece is None:
                    yield HEARTBEAT
                    continue
                told = [*(voice.opening() if number < 0 else ()), *voice.events(piece)]
                if piece.finish is not None:
                    told += end(piece, generation.summary)
                for each in told:
                    number = each["sequence_number"]
                    yield _named(each)
    except Exception as error:  # this dialect's error event is of its own shape
        if number < 0:  # nothing was told yet: the error still has its status
            raise
        yield _named(error_event(report(visit.house, error, Family.OPENAI).body, number + 1))


def _named(told: Event) -> bytes:
    return f"event: {told['type']}\n".encode() + event(told)
