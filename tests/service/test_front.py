"""A full house refuses by the head alone, over real sockets: with the route's own answer, and nobody else's request."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access import Gate
from service.connections import ConnectionLimits
from service.errors import Overloaded
from service.front import crowded_paths, front_of
from service.house import House
from service.logs import JsonLines
from tests.service.houses import saying, served
from tests.service.test_connections import listening_to, said

pytestmark = pytest.mark.anyio

CHAT = b"/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 8}


def post(body: Any, path: bytes = CHAT, *headers: bytes) -> bytes:
    """A request as it is sent."""
    data = json.dumps(body).encode()
    head = [b"POST " + path + b" HTTP/1.1", b"host: x", b"content-type: application/json", *headers]
    return b"\r\n".join([*head, b"content-length: %d" % len(data), b"", data])


@asynccontextmanager
async def full(folder: Path, **settings: Any) -> AsyncGenerator[tuple[int, House, httpx.AsyncClient], None]:
    """A house of one place, which is taken: its port, itself, and a client that goes the long way."""
    async with served(folder, saying("Hi"), max_concurrent_requests=1, **settings) as (client, _):
        app: Any = client._transport.app  # type: ignore[attr-defined]
        house: House = app.state.house
        limits = ConnectionLimits(50, 65536, 5.0, front_of(app, house.settings))
        house.gate.enter(0.0)
        async with listening_to(app, limits) as port:
            yield port, house, client
        house.gate.leave()


@pytest.mark.parametrize("path", sorted(crowded_paths()))
async def test_it_says_what_the_route_would(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, _: low)
    async with full(tmp_path) as (port, house, client):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as direct:
            near = await direct.post(path, json={"nonsense": 1})
        counted = house.gate.refused, dict(house.metrics.errors.values), dict(house.metrics.failures.values)
        far = await client.post(path, json={"nonsense": 1})
    assert near.status_code in {429, 503}
    assert (near.status_code, near.json()) == (far.status_code, far.json())
    apart = {"x-request-id", "openai-processing-ms", "date"}
    assert {k: v for k, v in near.headers.items() if k not in apart} == {
        k: v for k, v in far.headers.items() if k not in apart
    }
    assert set(near.headers) - {"date"} == set(far.headers)
    assert counted[0] == 1
    assert house.gate.refused == 2
    for before, after in zip(counted[1:], (house.metrics.errors.values, house.metrics.failures.values), strict=True):
        assert after == {label: 2 * count for label, count in before.items()}  # each way counted the same


async def test_its_line_in_the_log_is_the_routes_and_names_the_request(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(json.loads(self.format(record)))

    kept, log = Kept(), logging.getLogger("formwork.access")
    kept.setFormatter(JsonLines())
    async with full(tmp_path, access_log=True) as (port, _, client):
        log.addHandler(kept)
        log.setLevel(logging.INFO)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as direct:
                replies = [await each.post(CHAT.decode(), json=HELLO) for each in (direct, client)]
        finally:
            log.removeHandler(kept)
            log.setLevel(logging.NOTSET)
    assert [line["request_id"] for line in told] == [reply.headers["x-request-id"] for reply in replies]
    near, far = (
        {k: v for k, v in line.items() if k not in {"request_id", "seconds", "timestamp", "message"}} for line in told
    )
    assert near == far


async def test_the_connection_goes_on_and_its_next_request_is_served(tmp_path: Path) -> None:
    async with full(tmp_path) as (port, house, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        refused = [(await client.post(CHAT.decode(), json=HELLO)).status_code for _ in range(3)]
        house.gate.leave()
        served_ = await client.post(CHAT.decode(), json=HELLO)
        house.gate.enter(0.0)
        again = await client.post(CHAT.decode(), json=HELLO)
        lived = await client.get("/livez")
    assert (refused, served_.status_code, again.status_code, lived.status_code) == ([503] * 3, 200, 503, 200)


async def test_a_body_that_comes_in_pieces_is_dropped_and_is_no_request(tmp_path: Path) -> None:
    smuggled = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    whole = post({"x": smuggled.decode()})
    pieces = [whole[i : i + 40] for i in range(0, len(whole), 40)]
    chunked = b"POST " + CHAT + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with full(tmp_path) as (port, house, _):
        in_pieces = await said(port, *pieces, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", pause_s=0.01, wait_s=1.0)
        in_chunks = await said(port, chunked, b"5\r\nabcde\r\n", b"0\r\n\r\n", smuggled, pause_s=0.05, wait_s=1.0)
        assert house.gate.inside == 1
    for answer in (in_pieces, in_chunks):
        assert (answer.count(b"HTTP/1.1 "), answer.count(b" 503 "), answer.count(b" 200 ")) == (2, 1, 1)


async def test_requests_in_a_row_are_answered_in_their_order(tmp_path: Path) -> None:
    """One that waits for the answer before it takes the long way, for it must not overtake."""
    live = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    async with full(tmp_path) as (port, _, _client):
        answer = await said(port, live + post(HELLO) + live + post(HELLO) + post(HELLO), wait_s=1.0)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"503", b"200", b"503", b"503"]


async def test_who_awaits_leave_to_send_a_body_or_closes_is_cut_off(tmp_path: Path) -> None:
    async with full(tmp_path) as (port, _, _client):
        for header in (b"expect: 100-continue", b"connection: close"):
            head = post(HELLO, CHAT, header).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            answer = await said(port, head, wait_s=2.0)
            assert b" 503 " in answer
            assert b"connection: close" in answer
            assert b" 100 " not in answer
        old = post(HELLO).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        assert b"connection: close" in await said(port, old, wait_s=2.0)


async def test_who_may_not_come_in_is_told_that_and_other_routes_answer(tmp_path: Path) -> None:
    async with (
        full(tmp_path, api_keys="secret") as (port, _house, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        told = [
            (await client.post(CHAT.decode(), json=HELLO, headers=headers)).status_code
            for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": "secret"}, {"Authorization": "Bearer secret"})
        ]
        known = {"authorization": "Bearer secret"}
        missing = await client.post("/v1/nothing", json={}, headers=known)
        models = await client.get("/v1/models", headers=known)
        escaped = await client.post("/v1/chat/complet%69ons", json=HELLO, headers=known)
    assert told == [401, 401, 503, 503]
    assert (missing.status_code, models.status_code, escaped.status_code) == (404, 200, 503)


async def test_nobody_is_turned_away_while_there_is_room_or_where_answers_need_more(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), cors_allow_origins="http://a") as (client, _):
        app: Any = client._transport.app  # type: ignore[attr-defined]
        assert front_of(app, app.state.house.settings) is None
    async with full(tmp_path, root_path="/llm") as (port, house, _):
        for status in (b" 503 ", b" 200 "):
            for path in (CHAT, b"/llm" + CHAT):
                assert status in await said(port, post(HELLO, path), wait_s=0.5)
            house.gate.inside = 0
        house.gate.enter(0.0)


def test_many_who_come_for_one_place_are_spread_over_the_time_it_takes() -> None:
    now = 0.0
    gate = Gate(limit=1, clock=lambda: now)
    assert gate.crowd == 1.0
    gate.enter(0.0)
    for _ in range(300):
        with pytest.raises(Overloaded):
            gate.check(0.0)
    assert gate.crowd > 100
    crowded = gate.crowd
    now = 30.0
    gate.leave()
    gate.enter(0.0)
    assert gate.crowd < crowded / 5
    now = 300.0
    gate.leave()
    gate.enter(0.0)
    assert gate.crowd == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("refused", "least", "most"), [(0, 4.0, 6.0), (9, 4.0, 40.1), (500, 4.0, 60.0)])
async def test_the_time_to_come_again_grows_with_the_crowd(
    refused: int, least: float, most: float, tmp_path: Path
) -> None:
    """Between the wait of the queue and twice what all who come would need; never more than clients' libraries obey."""
    async with full(tmp_path) as (_, house, _client):
        object.__setattr__(house.engine, "stats", type(house.engine.stats)(queue_s_p50=2.0))
        for _ in range(refused):
            house.gate.refuse()
        told = [house.retry_after_s() for _ in range(500)]
    assert least <= min(told)
    assert max(told) <= most
    assert max(told) > least + 0.8 * (most - least)
