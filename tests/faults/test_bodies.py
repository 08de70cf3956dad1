"""Rows 14 to 20, 22, 44: bodies and heads that are too much, not what they say, or somebody else's."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.oracle import MESSAGES, Target, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def said(target: Target, *pieces: bytes, pause_s: float = 0.0, wait_s: float = 20.0) -> bytes:
    """What the server answers to raw bytes until it closes the connection, or nothing more comes."""
    where = urlsplit(target.server.url)
    answer = b""
    with socket.create_connection((where.hostname, where.port), timeout=wait_s) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            while data := connection.recv(65536):
                answer += data
        except (TimeoutError, ConnectionError):
            pass
    return answer


def chunked(target: Target, pieces: list[bytes]) -> bytes:
    """The answer to a chunked body, read while it is sent: a server that has heard enough closes the connection."""
    where = urlsplit(target.server.url)
    answer = b""
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        connection.sendall(head(target, "transfer-encoding: chunked"))
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                if select.select([connection], [], [], 0.005)[0]:
                    answer += connection.recv(65536)
    return answer


def head(target: Target, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json", "connection: close"]
    return "\r\n".join([*lines, f"authorization: Bearer {target.attacker}", *headers, "", ""]).encode()


def test_14_every_list_and_number_has_a_bound(target: Target) -> None:
    fields: list[dict[str, Any]] = [
        {"n": 10**6}, {"n": 128}, {"top_logprobs": 10**6}, {"stop": ["x"] * 10_000}, {"stop": "x" * 10**6},
        {"stop": [""]},
        {"logit_bias": {str(i): 1 for i in range(100_000)}}, {"logit_bias": {"99999999": 1}}, {"logit_bias": {"-1": 1}},
        {"logit_bias": {"9" * 40: 1}}, {"logit_bias": {"x": 1}}, {"stop_token_ids": list(range(1000))},
        {"max_tokens": 10**12}, {"max_tokens": 10**9}, {"min_tokens": -1}, {"messages": MESSAGES * 5000},
        {"messages": []},
        {"tools": [{"type": "function", "function": {"name": f"f{i}"}} for i in range(1000)]}, {"top_k": 2**40},
    ]  # fmt: skip
    for each in fields:
        response = target.chat(**each)
        assert response.status_code == 400, (each.keys(), response.text)
    for prompt in ({"best_of": 10**6}, {"best_of": 3, "n": 9}, {"logprobs": 10**6}):
        assert target.post("/v1/completions", {"prompt": "x", **prompt}).status_code == 400
    assert target.generate(best_of=10**6, do_sample=True).status_code == 422
    assert target.generate(top_n_tokens=10**6).status_code == 422
    assert (
        target.post("/v1/grammars", {"name": "x" * 300, "response_format": {"type": "json_object"}}).status_code == 400
    )


def test_15_a_prompt_that_cannot_fit_is_not_worked_on(target: Target) -> None:
    """Nor does cutting it hold up anyone: another client is answered all the while."""
    late: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        with httpx.Client(base_url=target.server.url) as client:
            while not ended.wait(0.05):
                began = time.monotonic()
                client.get("/livez", timeout=30)
                late.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    prompts: list[Any] = [
        " " * 3_900_000, "x" * 3_900_000, "\u00e9" * 600_000, ["x"] * 100_000, [[1]] * 100, list(range(4096)) * 60,
        [10**6], [-1], "", [], [[]],
    ]  # fmt: skip
    try:
        for prompt in prompts:
            response = target.post("/v1/completions", {"prompt": prompt, "max_tokens": 2})
            assert response.status_code == 400, (str(prompt)[:20], response.text[:200])
        assert target.post("/v1/completions", {"prompt": "x" * 10_000_000}).status_code == 413
        assert target.chat(messages=[{"role": "user", "content": "word " * 700_000}]).status_code == 400
        assert target.post("/generate", {"inputs": " " * 3_900_000}).status_code == 422
    finally:
        ended.set()
        watcher.join()
    assert max(late) < 5.0


def test_16_numbers_that_make_no_distribution_are_refused(target: Target) -> None:
    wrong: list[dict[str, Any]] = [
        {"temperature": -1}, {"temperature": 1e9}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -5}, {"min_p": 2},
        {"frequency_penalty": 1e9}, {"presence_penalty": -1e9}, {"repetition_penalty": 0}, {"repetition_penalty": -1},
        {"seed": 2**70}, {"seed": 1.5}, {"typical_p": 0}, {"temperature": "1"}, {"temperature": True},
    ]  # fmt: skip
    for fields in wrong:
        assert target.chat(**fields).status_code == 400, fields
    for text in ("NaN", "Infinity", "-Infinity", "1e400"):
        body = b'{"messages":[{"role":"user","content":"x"}],"temperature":' + text.encode() + b"}"
        assert target.post("/v1/chat/completions", body).status_code == 400, text
    edges: list[dict[str, Any]] = [
        {"temperature": 1e-9}, {"temperature": 100}, {"repetition_penalty": 100}, {"repetition_penalty": 1e-3},
        {"top_p": 1e-12}, {"logit_bias": {"5": -100, "6": 100}}, {"frequency_penalty": -2, "presence_penalty": 2},
        {"min_p": 1}, {"top_k": 1}, {"seed": 2**64 - 1}, {"seed": -(2**63)}, {"typical_p": 1e-6},
    ]  # fmt: skip
    for fields in edges:
        assert target.chat(**{"temperature": 1.0, "max_tokens": 6, **fields}).status_code == 200, fields


def test_17_special_tokens_that_a_user_types_are_text(target: Target) -> None:
    def tokens(content: str) -> list[dict[str, Any]]:
        reply = target.post("/chat_tokenize", {"messages": [{"role": "user", "content": content}]})
        found: list[dict[str, Any]] = reply.json()["tokenize_response"]
        return found

    specials = {each["text"] for each in tokens("x") if each["start"] == each["stop"] == 0}
    plain = [each["text"] for each in tokens("x")]
    assert specials
    for typed in specials:
        shown = [each["text"] for each in tokens(f"{typed}x{typed}")]
        assert [shown.count(special) for special in specials] == [plain.count(special) for special in specials]
        answer = target.chat(guided_choice=[typed], max_tokens=20)
        assert answer.json()["choices"][0]["message"]["content"] == typed


def test_18_templates_come_from_the_model_only(target: Target) -> None:
    assert target.chat(chat_template="{{ 1 }}").json()["error"]["param"] == "chat_template"
    for name in ("messages", "tools", "raise_exception", "bos_token"):
        assert target.chat(chat_template_kwargs={name: "x"}).status_code == 400, name
    values = [{"x": "{{ cycler.__init__.__globals__ }}"}, {"x": list(range(10_000))}, {"loop": {"a": {}}}]
    for value in values:
        assert target.chat(chat_template_kwargs=value, max_tokens=2).status_code == 200


def test_19_what_does_not_come_or_does_not_end_is_not_awaited(target: Target) -> None:
    assert b" 413 " in said(target, head(target, "content-length: 1000000000"))
    assert b" 431 " in said(target, head(target, "x: " + "a" * 1_000_000))
    assert b" 431 " in said(target, head(target, *(f"x{i}: y" for i in range(10_000))))
    assert b" 408 " in said(target, b"POST /v1/chat/comple")
    assert b" 408 " in said(target, head(target, "content-length: 100"), b"{")
    assert b" 415 " in said(target, head(target, "content-encoding: gzip", "content-length: 3"), b"abc")
    endless = [b"10000\r\n" + b" " * 65536 + b"\r\n"] * 70
    assert b" 413 " in chunked(target, endless)
    assert b" 408 " in said(target, head(target, "transfer-encoding: chunked"), b"1\r\n \r\n")
    assert b" 400 " in said(target, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")  # TLS to a plain port


def test_20_json_has_no_second_reading(target: Target) -> None:
    deep = b"[" * 100_000
    texts = [
        b'{"messages": [], "messages": []}', b'{"temperature": NaN}', b'{"temperature": 1e400}', b"{" * 100_000,
        deep, b'{"messages":' + deep + b"]" * 100_000 + b"}", b"\xff\xfe{}", b'\xef\xbb\xbf{"messages": []}',
        b'{"messages": [{"role": "user", "content": "\xc3\x28"}]}', b"", b"null", b"{}{}",
        b'{"n": ' + b"9" * 9999 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    ]  # fmt: skip
    for text in texts:
        assert target.post("/v1/chat/completions", text).status_code == 400, text[:40]


def test_22_nobody_can_name_anothers_request(target: Target) -> None:
    """Ids are made here: one that a client sends is never used, so that its going away is its own alone."""
    stolen: list[str] = []
    quiet = text_of(target.stream(seed=5, max_tokens=60, temperature=1.0))

    def victim() -> Iterator[bytes]:
        with target.client() as client:
            body = {"messages": MESSAGES, "seed": 5, "max_tokens": 60, "temperature": 1.0, "stream": True}
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                yield response.headers["x-request-id"].encode()
                yield b"".join(response.iter_raw())

    stream = victim()
    request_id = next(stream).decode()
    for prefix in (request_id, request_id[:4], ""):
        headers = {"x-request-id": prefix, "authorization": f"Bearer {target.attacker}"}
        with httpx.Client(base_url=target.server.url, headers=headers, timeout=30) as client:
            body = {"messages": MESSAGES, "max_tokens": 500, "stream": True, "user": prefix}
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                stolen.append(response.headers["x-request-id"])
                next(response.iter_raw())
    lines = [line.removeprefix("data: ") for line in next(stream).decode().split("\n") if line.startswith("data: {")]
    assert text_of([json.loads(line) for line in lines]) == quiet
    assert request_id not in stolen
    assert len(set(stolen)) == 3


def test_44_nothing_that_a_client_sends_begins_a_new_line(target: Target) -> None:
    evil = 'x\r\nx-evil: 1\r\n\r\n{"level": "ERROR"}\u202e\u2028'
    before = len(target.log())
    responses = [
        target.chat(model=evil), target.chat(user=evil, max_tokens=2), target.post("/v1/chat/completions", {evil: 1}),
        target.chat(tools=[{"type": "function", "function": {"name": evil}}]),
        target.chat(guided_json={"title": evil, "type": "strin\n"}), target.chat(stop=[evil], max_tokens=2),
        target.post("/v1/grammars", {"name": evil, "response_format": {"type": "json_object"}}),
    ]  # fmt: skip
    where = urlsplit(target.server.url)
    raw = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    raw.request("GET", "/v1/models/%0d%0ax-evil:%201%0a", headers={"authorization": f"Bearer {target.attacker}"})
    assert "x-evil" not in {name.lower() for name, _ in raw.getresponse().getheaders()}
    raw.close()
    assert all("x-evil" not in response.headers for response in responses)
    for line in target.log()[before:].splitlines():
        assert json.loads(line), line
