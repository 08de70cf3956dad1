"""Rows 21, 23, 24, 25, 29, 32: clients that leave, that do not read, that are too many, and rows that fail."""

from __future__ import annotations

import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.conftest import DRAW, INF, MARK, MASK, NAN, PLACES
from tests.faults.oracle import FORMAT, MESSAGES, Target
from tests.service.houses import saying, served

pytestmark = pytest.mark.timeout(600)
slow = pytest.mark.slow


@slow
def test_21_clients_that_leave_at_any_moment_free_what_they_held(target: Target) -> None:
    """Queued, in prefill, in mid-stream, while a grammar compiles; the oracle counts requests and pages."""
    where, chance = urlsplit(target.server.url), random.Random(0)
    bodies: list[dict[str, Any]] = [
        {"max_tokens": 600, "stream": True}, {"max_tokens": 600}, {"max_tokens": 300, "n": 4, "stream": True},
        {"guided_regex": "[a-z]{9,4000}", "max_tokens": 900, "stream": True}, {"response_format": FORMAT},
        {"messages": [{"role": "user", "content": "word " * 1500}], "stream": True, "max_tokens": 50},
    ]  # fmt: skip

    def leave(number: int) -> None:
        body = {"messages": MESSAGES, **chance.choice(bodies)}
        if "guided_regex" in body:
            body["guided_regex"] += f"{number}?"
        request = httpx.Request(
            "POST",
            target.server.url + "/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {target.attacker}"},
        )
        lines = [f"POST {request.url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
            time.sleep(chance.choice([0, 0.01, 0.05, 0.2, 0.6]))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(leave, range(60)))


@slow
def test_23_a_client_that_hardly_reads_is_cut_off(target: Target) -> None:
    """A byte now and then of a long stream: what is unread is bounded, and after `send_timeout_s` so is the time."""
    where = urlsplit(target.server.url)
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 2500, "ignore_eos": True, "n": 4, "temperature": 1.0}
    body |= {"logprobs": True, "top_logprobs": 20}  # many times what the kernel's buffers hold
    request = httpx.Request(
        "POST",
        target.server.url + "/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {target.attacker}"},
    )
    lines = [f"POST {request.url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((where.hostname, where.port))
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + request.read())
        assert connection.recv(1) == b"H"
        end = time.monotonic() + 300
        while "took nothing" not in target.log():
            connection.recv(1)
            assert time.monotonic() < end
            time.sleep(0.5)
    # That its pages are free and its request gone is the oracle's to say.


@slow
def test_24_what_is_too_much_is_told_so_at_once(target: Target) -> None:
    """Ten times the places: who is let in is served whole, the others are told when to come again."""

    def ask(number: int) -> tuple[int, httpx.Headers, bytes]:
        with target.client() as client:
            response = client.post(
                "/v1/chat/completions",
                json={"messages": MESSAGES, "max_tokens": 24, "response_format": FORMAT, "seed": number},
            )
            return response.status_code, response.headers, response.content

    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(ask, range(10 * PLACES)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) <= {200, 429, 503}
    assert statuses.count(200) >= PLACES // 2
    for status, headers, _ in answers:
        if status != 200:
            assert 1 <= int(headers["retry-after"]) <= 120
    told = target.metrics()
    assert told["formwork_refused_total"] + told["formwork_key_limited_total"] >= len(statuses) - statuses.count(200)


@slow
def test_25_a_flood_leaves_room_for_others(target: Target) -> None:
    """The bystander, whom the oracle checks, gets in all the while; the flood's own excess is 429: its key's limit."""
    statuses: list[int] = []
    ended = threading.Event()

    def flood() -> None:
        with target.client() as client:
            while not ended.is_set():
                statuses.append(
                    client.post("/v1/chat/completions", json={"messages": MESSAGES, "max_tokens": 100}).status_code
                )

    threads = [threading.Thread(target=flood) for _ in range(40)]
    for thread in threads:
        thread.start()
    try:
        answers = [target.work() for _ in range(3)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert answers == [target.quiet] * 3
    assert set(statuses) == {200, 429}


@slow
@pytest.mark.parametrize(
    ("seed", "code", "fields"),
    [
        (NAN, "numeric_error", {}),
        (INF, "numeric_error", {}),
        (DRAW, "internal_error", {}),
        (MASK, "internal_error", {"response_format": FORMAT}),
        (MARK, "internal_error", {"temperature": 1.0}),
    ],
    ids=["32 NaN logits", "32 infinite logits", "29 draw", "29 mask", "29 watermark"],
)
def test_29_32_a_row_that_fails_ends_its_own_request(
    target: Target, seed: int, code: str, fields: dict[str, Any]
) -> None:
    """By status where nothing was sent yet, else by a last event and no `[DONE]`; others run beside it undisturbed."""
    before = target.metrics().get(f'formwork_request_errors_total{{code="{code}"}}', 0)
    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(target.chat, seed=number, max_tokens=40) for number in range(4)]
        whole = target.chat(seed=seed, **fields)
        assert (whole.status_code, whole.json()["error"]["code"]) == (500, code)
        assert whole.headers["x-should-retry"] == "false"
        assert [other.result().status_code for other in others] == [200] * 4
    assert target.metrics()[f'formwork_request_errors_total{{code="{code}"}}'] == before + 1


@pytest.mark.anyio
async def test_29_a_text_that_cannot_be_decoded_ends_its_own_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detokeniser is in the API process."""
    async with served(tmp_path, saying("Hi")) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        kind: Any = type(house.tokenizer)

        def broken(_self: Any, _token_id: int) -> Any:
            raise RuntimeError("broken")

        async def status() -> int:
            return (await client.post("/v1/completions", json={"prompt": "x"})).status_code

        before = await status()
        with monkeypatch.context() as patch:
            patch.setattr(kind, "token_bytes", broken)
            during = await status()
        assert [before, during, await status()] == [200, 500, 200]
        assert house.gate.inside == 0
