"""A body is received before its request has a place: slow ones hold their own bytes and nothing else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import desk
from service.body import strict_json
from service.errors import InvalidBody
from tests.service.houses import saying, served

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
DATA = json.dumps(BODY).encode()


class SlowBody:
    """Half of a body now, the rest when it is told to."""

    def __init__(self, first: bytes = DATA[:9], rest: bytes = DATA[9:]) -> None:
        self.first, self.rest = first, rest
        self.begun, self.ends = asyncio.Event(), asyncio.Event()

    async def parts(self) -> AsyncGenerator[bytes, None]:
        yield self.first
        self.begun.set()
        await self.ends.wait()
        yield self.rest

    def send(self, client: httpx.AsyncClient, path: str = "/v1/chat/completions") -> asyncio.Task[httpx.Response]:
        headers = {"content-type": "application/json"}
        return asyncio.create_task(client.post(path, content=self.parts(), headers=headers))


@pytest.mark.anyio
async def test_a_body_that_is_still_arriving_holds_no_place(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), max_concurrent_requests=1) as (client, _):
        slow = [SlowBody() for _ in range(5)]
        answers = [each.send(client) for each in slow]
        for each in slow:
            await each.begun.wait()
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
        for each, answer in zip(slow, answers, strict=True):
            each.ends.set()
            assert (await answer).status_code == 200


@pytest.mark.anyio
async def test_a_body_too_slow_is_a_408(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), body_timeout_s=0.05) as (client, _):
        response = await SlowBody().send(client)
        assert (response.status_code, response.json()["error"]["code"]) == (408, "body_timeout")
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200


@pytest.mark.anyio
async def test_the_bytes_of_all_arriving_bodies_are_bounded(tmp_path: Path) -> None:
    """And are given back however the exchange ends."""
    async with served(tmp_path, saying("Hi"), bodies_limit_bytes=1024, body_timeout_s=20) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        first, second = SlowBody(b" " * 900), SlowBody(b" " * 900)
        held = first.send(client)
        await first.begun.wait()
        refused = await second.send(client)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert house.reception.held == 900
        first.ends.set()
        assert (await held).status_code == 400  # half of a body is no JSON; but its bytes were let in
        assert house.reception.held == 0
        assert house.gate.inside == 0


@pytest.mark.anyio
async def test_a_full_house_does_not_wait_for_the_body(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), max_concurrent_requests=1) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        house.gate.enter(1.0)
        slow = SlowBody()
        assert (await slow.send(client)).status_code == 503
        assert not slow.begun.is_set()
        house.gate.leave()


@pytest.mark.anyio
async def test_a_keys_slow_bodies_count_for_the_key(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), api_keys="a,b", key_requests_at_once=1) as (client, _):
        slow = SlowBody()
        client.headers["authorization"] = "Bearer a"
        answer = slow.send(client)
        await slow.begun.wait()
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 429
        other = await client.post("/v1/chat/completions", json=BODY, headers={"authorization": "Bearer b"})
        assert other.status_code == 200
        slow.ends.set()
        assert (await answer).status_code == 200


@pytest.mark.anyio
async def test_a_large_body_is_read_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[bool] = []

    def watched(data: bytes) -> Any:
        readers.append(threading.current_thread() is threading.main_thread())
        return json.loads(data)

    monkeypatch.setattr(desk, "strict_json", watched)
    async with served(tmp_path, saying("Hi")) as (client, _):
        for padding in (0, 100_000):
            content = DATA + b" " * padding
            answer = client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
            assert (await answer).status_code == 200
    assert readers == [True, False]


def test_a_name_that_stands_twice_is_found_in_one_pass() -> None:
    """Comparing each name with all others took minutes in which nobody was answered."""
    names = b",".join(b'"%d":0' % index for index in range(200_000))
    with pytest.raises(InvalidBody, match="'z' stands twice"):
        strict_json(b"{" + names + b',"z":0,"z":0}')
