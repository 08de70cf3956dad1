"""`/v1/chat/completions` against a scripted engine: shapes, streams, ends and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import EngineOverloaded, GrammarDeadEnd
from engine.messages import Finish, FinishReason, Guessed
from schemas.chat import ChatChunk, ChatCompletion
from tests.service.houses import BYTES, saying, served

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


def events(text: str) -> list[Any]:
    """The events of a stream, comments left out; [DONE] as it is."""
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def content(chunks: list[Any], index: int = 0) -> str:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(delta.get("content") or "" for delta in deltas)


GUESSED = [Guessed("ngram", 5, 3)]


async def test_a_completion_has_openais_shape(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Grüß dich")) as (client, _):
        response = await client.post(URL, json=HELLO)
    assert response.status_code == 200
    answer = ChatCompletion.model_validate_json(response.content)
    assert answer.choices[0].message.content == "Grüß dich"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "tiny"
    assert answer.usage.completion_tokens == len("Grüß dich".encode()) + 1


async def test_logprobs_come_unasked_and_their_bytes_are_the_text(tmp_path: Path) -> None:
    async with served(tmp_path, saying("naïve €")) as (client, _):
        answer = (await client.post(URL, json=HELLO)).json()
    entries = answer["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == "naïve €"
    assert all(entry["top_logprobs"] == [] for entry in entries)
    beside = answer["formwork"]["choices"][0]["tokens"]
    assert len(beside) == len(entries)
    assert beside[0] == {
        "token_id": BYTES.tokens("n")[0].token_id,
        "constrained_logprob": -0.25,
        "legal_mass": 0.75,
        "forced": False,
    }


@pytest.mark.parametrize(("asked", "told"), [({}, False), ({"logprobs": True}, True), ({"top_logprobs": 2}, True)])
async def test_a_server_may_tell_log_probs_to_those_who_ask(tmp_path: Path, asked: dict[str, Any], told: bool) -> None:
    """`logprobs = false` in its settings."""
    async with served(tmp_path, saying("Hi"), logprobs=False) as (client, _):
        answer = (await client.post(URL, json={**HELLO, **asked})).json()
    assert (answer["choices"][0]["logprobs"] is not None) is told


async def test_logprobs_false_leaves_them_out(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        answer = (await client.post(URL, json={**HELLO, "logprobs": False})).json()
    assert answer["choices"][0]["logprobs"] is None


async def test_a_stream_opens_with_the_role_and_ends_with_done(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Grüß €", size=1)) as (client, _):
        response = await client.post(URL, json={**HELLO, "stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    for chunk in chunks:
        ChatChunk.model_validate(chunk)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert content(chunks) == "Grüß €"
    assert "\ufffd" not in response.text
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == len("Grüß €".encode()) + 1
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]][-1] == "stop"
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_a_stream_without_the_wish_has_no_usage_key(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await client.post(URL, json={**HELLO, "stream": True})
    assert all("usage" not in chunk for chunk in events(response.text)[:-1])


@pytest.mark.parametrize("size", [1, 2, 3, 8])
async def test_a_stop_string_is_never_shown(tmp_path: Path, size: int) -> None:
    steps = saying("one END", size=size)[: -1 - 1]
    steps.append(Finish(reason=FinishReason.STOP, stop=b"END"))
    async with served(tmp_path, steps) as (client, engine):
        streamed = await client.post(URL, json={**HELLO, "stop": ["END"], "stream": True})
        whole = await client.post(URL, json={**HELLO, "stop": "END"})
    assert content(events(streamed.text)[:-1]) == "one "
    assert whole.json()["choices"][0]["message"]["content"] == "one "
    assert whole.json()["choices"][0]["finish_reason"] == "stop"
    entries = whole.json()["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in entries) == b"one "
    assert engine.requests[0][0].sampling.stop == (b"END",)


async def test_the_beginning_of_a_stop_string_is_shown_when_it_was_none(tmp_path: Path) -> None:
    async with served(tmp_path, saying("one EN", size=1)) as (client, _):
        response = await client.post(URL, json={**HELLO, "stop": ["END"], "stream": True})
    assert content(events(response.text)[:-1]) == "one EN"


async def test_choices_differ_by_seed_and_are_told_apart(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        answer = (await client.post(URL, json={**HELLO, "n": 3, "seed": 7})).json()
        streamed = await client.post(URL, json={**HELLO, "n": 2, "stream": True})
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    seeds = [request.sampling.seed for request, _ in engine.requests[:3]]
    assert seeds[0] == 7
    assert len(set(seeds)) == 3
    chunks = events(streamed.text)[:-1]
    assert [content(chunks, index) for index in (0, 1)] == ["Hi", "Hi"]
    assert answer["usage"]["completion_tokens"] == 9


async def test_length_is_told(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi", reason=FinishReason.LENGTH)) as (client, engine):
        answer = (await client.post(URL, json={**HELLO, "max_tokens": 2})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert engine.requests[0][0].sampling.max_tokens == 2


async def test_an_error_before_the_first_event_has_a_status(tmp_path: Path) -> None:
    async with served(tmp_path, [EngineOverloaded("the queue is full")]) as (client, _):
        for stream in (False, True):
            response = await client.post(URL, json={**HELLO, "stream": stream})
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "overloaded"


async def test_an_error_after_the_first_event_is_the_last_event(tmp_path: Path) -> None:
    async with served(tmp_path, [BYTES.tokens("Hi"), GrammarDeadEnd("nothing is legal")]) as (client, _):
        streamed = await client.post(URL, json={**HELLO, "stream": True})
        whole = await client.post(URL, json=HELLO)
    # The first event is out before the error is met.
    *_, last = events(streamed.text)
    assert streamed.status_code in {200, 500}
    assert (last["error"] if streamed.status_code == 200 else streamed.json()["error"])["code"] == "grammar_dead_end"
    assert "[DONE]" not in streamed.text
    assert whole.status_code == 500
    assert whole.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role", "'user'"),
        ({**HELLO, "temprature": 1}, "temprature", "temperature"),
        ({**HELLO, "temperature": -1}, "temperature", "greater than or equal to 0"),
        ({**HELLO, "temperature": "hot"}, "temperature", "number"),
        ({**HELLO, "n": 1000000}, "n", "128"),
        ({**HELLO, "n": 100}, "n", "16"),
        ({**HELLO, "top_logprobs": 21}, "top_logprobs", "20"),
        ({**HELLO, "max_tokens": 0}, "max_tokens", "greater than 0"),
        ({**HELLO, "max_tokens": 100000}, "max_tokens", "4096"),
        ({**HELLO, "logit_bias": {"x": 1}}, "logit_bias", "token ids"),
        ({**HELLO, "logit_bias": {"99999": 1}}, "logit_bias", "vocabulary"),
        ({**HELLO, "response_format": {"type": "xml"}}, "response_format", "json_schema"),
        ({**HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema", "schema"),
        ({**HELLO, "response_format": {"type": "regex", "value": ""}}, "response_format.value", "empty"),
        ({**HELLO, "guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "one constraint"),
        ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options", "stream"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content",
            "text",
        ),
    ],
)
async def test_a_bad_field_is_named(tmp_path: Path, body: dict[str, Any], param: str, says: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post(URL, json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert says in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "malformed JSON"),
        (b"[]", "object"),
        (b'{"messages": [], "messages": []}', "twice"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"temperature": 1e400}', "out of range"),
        (b'{"model": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "nested"),
    ],
)
async def test_a_malformed_body_is_a_400(tmp_path: Path, data: bytes, says: str) -> None:
    async with served(tmp_path, []) as (client, _):
        response = await client.post(URL, content=data, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, [], body_limit_bytes=1024) as (client, _):
        response = await client.post(URL, json={"messages": [{"role": "user", "content": "x" * 2000}]})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (URL, {"messages": [{"role": "user", "content": "x" * 5000}]}, "messages"),
        ("/v1/completions", {"prompt": "x" * 5000}, "prompt"),
        ("/v1/responses", {"input": "x" * 5000}, "input"),
    ],
)
async def test_a_prompt_over_the_context_is_refused_by_its_field(
    path: str, body: dict[str, Any], named: str, tmp_path: Path
) -> None:
    async with served(tmp_path, []) as (client, _):
        response = await client.post(path, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", named)


async def test_an_unknown_model_is_a_404_and_the_aliases_are_known(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        unknown = await client.post(URL, json={**HELLO, "model": "gpt-9"})
        known = [(await client.post(URL, json={**HELLO, "model": name})).status_code for name in ("default", "small")]
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert known == [200, 200]


async def test_special_tokens_in_a_users_text_are_text(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        await client.post(URL, json={"messages": [{"role": "user", "content": "a<|eos|>b"}]})
    prompt = engine.requests[0][0].prompt
    assert prompt.count(256) == 1  # the template's own
    assert [token.token_id for token in BYTES.tokens("<|eos|>")] == prompt[8:15]


async def test_watermark_is_asked_for_unless_the_request_says_no(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        await client.post(URL, json=HELLO)
        answer = (await client.post(URL, json={**HELLO, "formwork": {"watermark": False}})).json()
    assert [request.mark is not None for request, _ in engine.requests] == [True, False]
    assert answer["formwork"]["watermark"]["reason"] == "not_requested"


async def test_an_enforced_watermark_cannot_be_declined(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), watermark="enforce") as (client, _):
        response = await client.post(URL, json={**HELLO, "formwork": {"watermark": False}})
    assert response.status_code == 403


async def test_an_api_key_is_asked_for_when_one_is_configured(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), api_keys="secret,other") as (client, _):
        answers = [
            await client.post(URL, json=HELLO, headers=headers)
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer other"})
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 200]
    assert answers[0].json()["error"]["code"] == "invalid_api_key"


async def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), max_concurrent_requests=1) as (client, _):
        house = client._transport.app.state.house  # type: ignore[attr-defined]
        house.gate.enter(0.0)
        response = await client.post(URL, json=HELLO)
        house.gate.leave()
        after = await client.post(URL, json=HELLO)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert after.status_code == 200
    assert house.gate.inside == 0


async def test_jumping_reaches_the_engine_and_needs_a_constraint(tmp_path: Path) -> None:
    steps = [*saying('"a"')[:-1], Finish(reason=FinishReason.EOS, passes=2, jumped_tokens=1, guessed=GUESSED)]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "a"}}}
    async with served(tmp_path, steps) as (client, engine):
        asked = await client.post(URL, json={**HELLO, "response_format": schema, "formwork": {"jump": True}})
        refused = await client.post(URL, json={**HELLO, "formwork": {"jump": True}})
        metrics = (await client.get("/metrics")).text
    assert engine.requests[0][0].jump
    (choice,) = asked.json()["formwork"]["choices"]
    assert (choice["passes"], choice["jumped_tokens"]) == (2, 1)
    assert choice["guesses"] == {"ngram": {"proposed": 5, "accepted": 3}}
    assert 'formwork_guesses_total{proposer="ngram"} 5' in metrics
    assert 'formwork_accepted_guesses_total{proposer="ngram"} 3' in metrics
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "formwork.jump"
