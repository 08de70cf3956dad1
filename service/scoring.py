"""How likely each of a set of options is after a prompt: nothing is drawn, the prompt is extended and measured.

What it is for: `score`. What may not enter: HTTP.

The idea: the engine tells the log-prob of every token of a prompt; so each spelling of each option is a prompt of its
own, whose last tokens are the option. They share the pages of what stands before it, and run in one batch.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from engine.messages import AdapterRef, Generate, PromptToken, Sampling
from engine.tokenizer import Tokenizer
from service.dialects.facts import finite
from service.house import House


@dataclass(frozen=True, slots=True)
class Spellings:
    """Ways to write an option in tokens, the tokenizer's own first; `complete`: there are no others."""

    tokens: list[list[int]]
    complete: bool


@dataclass(frozen=True, slots=True)
class Score:
    logprob: float
    spellings: Spellings


def spellings(tokenizer: Tokenizer, text: str, limit: int) -> Spellings:
    """The tokenizer's own spelling, then others by their number of tokens, at most `limit` in all."""
    own = tokenizer.encode(text, special=False)
    if limit == 1:
        return Spellings([own], complete=False)
    found = [own]
    for tokens in _all_spellings(tokenizer, text.encode()):
        if tokens == own:
            continue
        if len(found) == limit:
            return Spellings(found, complete=False)
        found.append(tokens)
    return Spellings(found, complete=True)


def _all_spellings(tokenizer: Tokenizer, data: bytes) -> Iterator[list[int]]:
    """All spellings, those of fewest tokens first: a best-first search over the places that tokens may end at."""
    ends = _tokens_at(tokenizer, data)
    fewest = _fewest(ends, len(data))
    order = itertools.count()
    queue: list[tuple[float, int, int, list[int]]] = [(fewest[0], next(order), 0, [])]
    while queue:
        _, _, at, tokens = heapq.heappop(queue)
        if at == len(data):
            yield tokens
            continue
        for token, end in ends[at]:
            if fewest[end] < math.inf:
                heapq.heappush(queue, (len(tokens) + 1 + fewest[end], next(order), end, [*tokens, token]))


def _tokens_at(tokenizer: Tokenizer, data: bytes) -> list[list[tuple[int, int]]]:
    """For each byte place, the tokens that stand there and where they end."""
    by_bytes: dict[bytes, list[int]] = {}
    for token, spelled in enumerate(tokenizer.vocabulary_bytes):
        if spelled and spelled in data:
            by_bytes.setdefault(spelled, []).append(token)
    longest = max(map(len, by_bytes), default=0)
    return [
        [
            (token, end)
            for end in range(at + 1, min(at + longest, len(data)) + 1)
            for token in by_bytes.get(data[at:end], ())
        ]
        for at in range(len(data))
    ]


def _fewest(ends: Sequence[Sequence[tuple[int, int]]], size: int) -> list[float]:
    """The fewest tokens from each place to the end."""
    fewest = [math.inf] * size + [0.0]
    for at in range(size - 1, -1, -1):
        fewest[at] = min((1 + fewest[end] for _, end in ends[at]), default=math.inf)
    return fewest


async def score(
    house: House,
    prompt: Sequence[int],
    options: Sequence[Spellings],
    *,
    ends: bool,
    tenant: str,
    adapter: AdapterRef | None = None,
) -> list[Score]:
    """The log-prob of each option, summed over its spellings."""
    prefix = f"score-{secrets.token_hex(12)}"
    tails = [[token] for token in house.engine.info.eos_token_ids] if ends else [[]]
    jobs = [
        (place, [*tokens, *tail]) for place, option in enumerate(options) for tokens in option.tokens for tail in tails
    ]

    def asked(index: int, tokens: list[int]) -> Generate:
        sampling = Sampling(max_tokens=1, seed=0, temperature=0.0, prompt_logprobs=0)
        name = f"{prefix}-{index}"
        return Generate(request_id=name, prompt=[*prompt, *tokens], sampling=sampling, tenant=tenant, adapter=adapter)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_measure(house, asked(index, tokens), len(prompt)))
                for index, (_, tokens) in enumerate(jobs)
            ]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None  # the first failure is the request's
    sums: list[list[float]] = [[] for _ in options]
    for (place, _), task in zip(jobs, tasks, strict=True):
        sums[place].append(task.result())
    return [Score(_log_sum(each), option) for each, option in zip(sums, options, strict=True)]


async def _measure(house: House, request: Generate, before: int) -> float:
    """The log-prob of the prompt's tokens behind the first `before`."""
    told: list[PromptToken] = []
    async with aclosing(house.engine.generate(request)) as outputs:
        async for output in outputs:
            told += output.prompt or ()
    return sum(finite(token.logprob or 0.0) for token in told[before:])


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
