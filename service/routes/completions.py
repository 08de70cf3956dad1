"""`POST /v1/completions`, `/tokenize` and `/detokenize`.

What it is for: OpenAI's legacy completions (several prompts at once, each with its choices), and the token routes of
vLLM and TGI. What may not enter: shapes of completions (service.dialects.completions).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.completions import (
    Completion,
    CompletionRequest,
    DetokenizeReply,
    DetokenizeRequest,
    TokenizeReply,
    TokenizeRequest,
)
from schemas.errors import OpenAIError
from schemas.tgi import TextToken
from service import wishes
from service.accounts import count
from service.chat import Conversation, plain_message
from service.desk import Visit, counted, receive
from service.dialects.completions import CompletionVoice
from service.dialects.openai import Head, usage
from service.dialects.tgi import text_tokens
from service.errors import Family, InvalidBody
from service.gathering import Told, gather_all
from service.generation import Generation, Prepared, Summary, in_turn, prepare
from service.openapi import DOCUMENTED
from service.streaming import DONE, HEARTBEAT, JsonReply, attended, event
from service.tools import callables

router = APIRouter(tags=["OpenAI"])

EXAMPLE: dict[str, Any] = {"prompt": "The sky is", "max_tokens": 8, "guided_choice": [" blue", " grey"]}


@router.post(
    "/v1/completions",
    **DOCUMENTED.route(Completion, body=CompletionRequest, error=OpenAIError, event=Completion, example=EXAMPLE),
)
async def completions(request: Request) -> Response:
    """Continues one or several prompts."""
    return await receive(request, _completions)


async def _completions(visit: Visit) -> Response:
    return await answer_completion(visit, await visit.body(CompletionRequest))


async def answer_completion(visit: Visit, body: CompletionRequest) -> Response:
    """The answer to a completion request, streamed if it says so."""
    house = visit.house
    model = house.model_named(body.model)
    asked = await wishes.of_completion(house, body, visit.tenant)
    prepared = [await attended(visit.request, prepare(house, wish, "cmpl-")) for wish in asked]
    options = body.stream_options
    voice = CompletionVoice(
        Head(prepared[0].id, int(time.time()), model, house.fingerprint),
        house.tokenizer,
        body.logprobs,
        include_usage=bool(options and options.include_usage),
        prompt_logprobs=body.prompt_logprobs,
    )
    echoes = [house.tokenizer.decode(wish.prompt) if body.echo else "" for wish in asked]
    if body.stream:
        return await visit.stream(_events(visit, prepared, voice, echoes), Family.OPENAI)
    return await attended(visit.request, _whole(visit, prepared, voice, echoes, body.n or 1))


async def _whole(
    visit: Visit, prepared: Sequence[Prepared], voice: CompletionVoice, echoes: Sequence[str], wanted: int
) -> Response:
    generations = [Generation(visit.house, each) for each in prepared]
    answered = [_best(each, wanted) for each in await gather_all(generations)]
    choices: list[dict[str, Any]] = []
    for told, generation, echo in zip(answered, generations, echoes, strict=True):
        count(visit.house, generation)
        choices += [voice.choice(len(choices) + index, each, echo) for index, each in enumerate(told)]
    summaries = [generation.summary for generation in generations]
    total = _sum(summaries)
    block = voice.block(list(zip(prepared, summaries, answered, strict=True)))
    return JsonReply({**voice.head.of("text_completion"), "choices": choices, "usage": usage(total), "formwork": block})


async def _events(
    visit: Visit, prepared: Sequence[Prepared], voice: CompletionVoice, echoes: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    """The prompts' events as they come, told apart by the index of their choice."""
    async with AsyncExitStack() as stack:
        generations = [await stack.enter_async_context(counted(visit, each)) for each in prepared]
        async for told in in_turn(generations, visit.house.settings.heartbeat_s):
            if told is None:
                yield HEARTBEAT
                continue
            place, piece = told
            if piece.text or piece.shown or piece.finish or piece.prompt:
                index = place * prepared[place].wish.n + piece.index
                yield event(voice.event(index, piece, echoes[place], prepared[place], generations[place].summary))
        if voice.include_usage:
            total = _sum([generation.summary for generation in generations])
            yield event({**voice.head.of("text_completion"), "choices": [], "usage": usage(total)})
    yield DONE


def _best(told: Sequence[Told], wanted: int) -> Sequence[Told]:
    """The `n` likeliest of `best_of`, by mean log-prob a token."""
    return told if wanted >= len(told) else sorted(told, key=lambda each: each.score, reverse=True)[:wanted]


def _sum(summaries: Sequence[Summary]) -> Summary:
    return Summary(
        prompt_tokens=sum(each.prompt_tokens for each in summaries),
        completion_tokens=sum(each.completion_tokens for each in summaries),
        cached_tokens=sum(each.cached_tokens for each in summaries),
    )


@router.post(
    "/tokenize",
    **DOCUMENTED.route(
        TokenizeReply, arrays=[TextToken], body=TokenizeRequest, error=OpenAIError, example={"prompt": "Hi"}
    ),
)
async def tokenize(request: Request) -> Response:
    """A text's tokens: vLLM's shape for `prompt` and `messages`, TGI's for `inputs`."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(TokenizeRequest)
        house = visit.house
        house.model_named(body.model)
        if sum(each is not None for each in (body.prompt, body.messages, body.inputs)) != 1:
            raise InvalidBody("send exactly one of prompt, messages and inputs")
        if body.inputs is not None:
            bos = body.add_special_tokens is not False
            tokens = await wishes.encode(house, body.inputs, "inputs", special=True, add_bos=bos)
            return JsonReply(await asyncio.to_thread(text_tokens, house.tokenizer, tokens))
        if body.messages is not None:
            tools = [tool.shown for tool in callables(body.tools)] if body.tools else None
            turns = [plain_message(message) for message in body.messages]
            tokens = await wishes.spelled(house, Conversation(turns, tools))
        else:
            bos = body.add_special_tokens is not False
            tokens = await wishes.encode(house, body.prompt or "", "prompt", special=True, add_bos=bos)
        return JsonReply({"count": len(tokens), "max_model_len": house.context_length, "tokens": tokens})

    return await receive(request, work)


@router.post(
    "/detokenize",
    **DOCUMENTED.route(DetokenizeReply, body=DetokenizeRequest, error=OpenAIError, example={"tokens": [72, 105]}),
)
async def detokenize(request: Request) -> Response:
    """The text of tokens, special ones left out."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(DetokenizeRequest)
        visit.house.model_named(body.model)
        if bad := next((token for token in body.tokens if token >= visit.house.engine.info.vocab_size), None):
            raise InvalidBody(f"token id {bad} is outside the vocabulary", param="tokens")
        return JsonReply({"prompt": visit.house.tokenizer.decode(body.tokens)})

    return await receive(request, work)
