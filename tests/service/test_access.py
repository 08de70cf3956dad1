"""Each key's own limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access import Allowances
from service.errors import KeyLimited
from tests.service.houses import saying, served

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}


def test_what_a_key_may_send_comes_back_over_the_minute() -> None:
    now = 0.0
    allowances = Allowances(at_once=0, per_minute=3, clock=lambda: now)
    for _ in range(3):
        allowances.enter("a")
    allowances.enter("b")
    with pytest.raises(KeyLimited) as caught:
        allowances.enter("a")
    assert caught.value.retry_after_s == 20.0
    now = 20.0
    allowances.enter("a")
    with pytest.raises(KeyLimited):
        allowances.enter("a")
    now = 10_000.0
    for _ in range(3):  # no more than a minute's worth is ever saved up
        allowances.enter("a")
    with pytest.raises(KeyLimited):
        allowances.enter("a")


def test_a_request_that_leaves_makes_room() -> None:
    allowances = Allowances(at_once=1, per_minute=0)
    allowances.enter("a")
    with pytest.raises(KeyLimited):
        allowances.enter("a")
    allowances.leave("a")
    allowances.enter("a")


def test_nobody_is_limited_where_there_are_no_keys_or_no_limits() -> None:
    for allowances, tenant in ((Allowances(1, 1), ""), (Allowances(0, 0), "a")):
        for _ in range(5):
            allowances.enter(tenant)
        allowances.leave(tenant)


@pytest.mark.anyio
async def test_a_limited_key_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), api_keys="a,b", key_requests_per_minute=2) as (client, _):

        async def ask(path: str, key: str, body: dict[str, Any]) -> httpx.Response:
            return await client.post(path, json=body, headers={"authorization": f"Bearer {key}"})

        first = [(await ask("/v1/chat/completions", "a", BODY)).status_code for _ in range(2)]
        limited = await ask("/v1/chat/completions", "a", BODY)
        tgi = await ask("/generate", "a", {"inputs": "x"})
        anthropic = await ask("/v1/messages", "a", {**BODY, "max_tokens": 9})
        other = await ask("/v1/chat/completions", "b", BODY)
    assert (first, other.status_code) == ([200, 200], 200)
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(limited.headers["retry-after"]) >= 1
    assert (tgi.status_code, tgi.json()["error_type"]) == (429, "overloaded")
    assert (anthropic.status_code, anthropic.json()["error"]["type"]) == (429, "rate_limit_error")


@pytest.mark.anyio
async def test_a_request_that_was_refused_leaves_its_keys_account(tmp_path: Path) -> None:
    key = {"authorization": "Bearer a"}
    async with served(tmp_path, saying("Hi"), api_keys="a", key_requests_at_once=1) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        for _ in range(3):
            assert (await client.post("/v1/chat/completions", json={}, headers=key)).status_code == 400
        house.gate.draining = True
        assert (await client.post("/v1/chat/completions", json=BODY, headers=key)).status_code == 503
        house.gate.draining = False
        streamed = await client.post("/v1/chat/completions", json={**BODY, "stream": True}, headers=key)
        assert streamed.status_code == 200
        assert (await client.post("/v1/chat/completions", json=BODY, headers=key)).status_code == 200
