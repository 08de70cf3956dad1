"""`POST /v1/choices/score`.

What it is for: classification with a probability, in one prefill. What may not enter: the measuring (service.scoring).
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.chat import ChatRequest
from schemas.errors import OpenAIError
from schemas.scoring import ScoreReply, ScoreRequest
from service import wishes
from service.desk import Visit, receive
from service.errors import InvalidBody, TooManyTokens
from service.openapi import DOCUMENTED
from service.scoring import Score, score, spellings
from service.streaming import JsonReply, attended

router = APIRouter(tags=["Formwork"])

EXAMPLE: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is the sky blue? Answer yes or no."}],
    "choices": ["yes", "no"],
}
_MOST = 256  # spellings in one request


@router.post("/v1/choices/score", **DOCUMENTED.route(ScoreReply, body=ScoreRequest, error=OpenAIError, example=EXAMPLE))
async def score_choices(request: Request) -> Response:
    """The probability of each option after the prompt."""
    return await receive(request, _score)


async def _score(visit: Visit) -> Response:
    house = visit.house
    body = await visit.body(ScoreRequest)
    model = house.model_named(body.model)
    wanted = await attended(visit.request, _choices(visit, body))
    if len(wanted) * body.tokenizations > _MOST:
        raise InvalidBody(f"options times tokenizations may be at most {_MOST}", param="tokenizations")
    prompt = await _prompt(visit, body)
    options = await asyncio.to_thread(
        lambda: [spellings(house.tokenizer, choice, body.tokenizations) for choice in wanted]
    )
    longest = max(len(tokens) for option in options for tokens in option.tokens) + 2
    if not prompt or len(prompt) + longest > house.context_length:
        raise TooManyTokens(
            f"the prompt has {len(prompt)} tokens and the longest option {longest}; "
            f"there must be a prompt, and together they may have {house.context_length}",
            param="prompt" if body.prompt is not None else "messages",
        )
    adapter = house.adapters.find(body.model)
    measured = score(house, prompt, options, ends=body.ends, tenant=visit.tenant, adapter=adapter)
    scores = await attended(visit.request, measured)
    return JsonReply(_reply(wanted, model, len(prompt), scores))


async def _choices(visit: Visit, body: ScoreRequest) -> list[str]:
    """The options, each once."""
    if body.regex is not None:
        words = await visit.house.compiler.list_words(body.regex, _MOST, "regex", visit.tenant)
        if "" in words:
            raise InvalidBody("the regular expression matches the empty text, which cannot be measured", param="regex")
        return words
    choices = body.choices or []
    if len(set(choices)) < len(choices):
        raise InvalidBody("an option stands twice", param="choices")
    return choices


async def _prompt(visit: Visit, body: ScoreRequest) -> list[int]:
    if body.prompt is not None:
        return await wishes.encode_prompt(visit.house, body.prompt, "prompt")
    chat = ChatRequest(messages=body.messages or [])
    return await wishes.spelled(visit.house, wishes.chat_conversation(visit.house, chat, visit.tenant))


def _reply(wanted: list[str], model: str, prompt_tokens: int, scores: list[Score]) -> dict[str, Any]:
    top = max(each.logprob for each in scores)
    weights = [math.exp(each.logprob - top) for each in scores]
    choices = [
        {
            "choice": choice,
            "logprob": each.logprob,
            "probability": math.exp(each.logprob),
            "share": weight / sum(weights),
            "tokens": len(each.spellings.tokens[0]),
            "tokenizations": len(each.spellings.tokens),
            "complete": each.spellings.complete,
        }
        for choice, each, weight in zip(wanted, scores, weights, strict=True)
    ]
    return {
        "object": "choices.score",
        "model": model,
        "choices": choices,
        "best": wanted[weights.index(max(weights))],
        "mass": sum(math.exp(each.logprob) for each in scores),
        "prompt_tokens": prompt_tokens,
    }
