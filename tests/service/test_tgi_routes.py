"""TGI's native routes against a scripted engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import EngineOverloaded, NumericError
from engine.messages import Alternative, Finish, FinishReason, Token
from schemas.errors import TgiError
from schemas.tgi import GenerateReply, Info, StreamEvent
from tests.engine.scripted import Step
from tests.service.houses import BYTES, EOS, saying, served

pytestmark = pytest.mark.anyio


def stream_events(text: str) -> list[Any]:
    return [json.loads(line[5:]) for line in text.split("\n") if line.startswith("data:")]


async def test_generate_without_details_has_the_text_only(tmp_path: Path) -> None:
    async with served(tmp_path, saying("über")) as (client, engine):
        response = await client.post("/generate", json={"inputs": "x"})
    assert response.json() == {"generated_text": "über"}
    assert engine.requests[0][0].sampling.temperature == 0
    assert response.headers["x-generated-tokens"] == "6"


async def test_details_tell_tokens_and_the_end(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        body = {"inputs": "x", "parameters": {"details": True, "return_full_text": True}}
        response = await client.post("/generate", json=body)
    reply = GenerateReply.model_validate_json(response.content)
    assert reply.generated_text == "xHi"
    assert reply.details is not None
    assert reply.details.finish_reason == "eos_token"
    assert [token.text for token in reply.details.tokens] == ["H", "i", "<|eos|>"]
    assert [token.special for token in reply.details.tokens] == [False, False, True]


async def test_the_stop_string_stays_in_the_text(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("a END"), Finish(reason=FinishReason.STOP, stop=b"END")]
    async with served(tmp_path, steps) as (client, _):
        response = await client.post(
            "/generate", json={"inputs": "x", "parameters": {"stop": ["END"], "details": True}}
        )
    assert response.json()["generated_text"] == "a END"
    assert response.json()["details"]["finish_reason"] == "stop_sequence"


async def test_root_answers_with_an_array_or_a_stream(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        whole = await client.post("/", json={"inputs": "x"})
        streamed = await client.post("/", json={"inputs": "x", "stream": True})
    assert whole.json() == [{"generated_text": "Hi"}]
    assert stream_events(streamed.text)[-1]["generated_text"] == "Hi"


async def test_a_stream_has_one_event_a_token(tmp_path: Path) -> None:
    async with served(tmp_path, saying("€x", size=2)) as (client, _):
        response = await client.post("/generate_stream", json={"inputs": "x", "parameters": {"details": True}})
    events = [StreamEvent.model_validate(each) for each in stream_events(response.text)]
    assert [each.index for each in events] == [1, 2, 3, 4, 5]
    assert [each.generated_text for each in events] == [None] * 4 + ["€x"]
    assert events[-1].details is not None
    assert events[-1].details.generated_tokens == 5
    assert events[-1].token.special
    assert "data: " not in response.text
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("size", [1, 2, 50])
async def test_the_texts_of_tokens_join_to_the_text(tmp_path: Path, size: int) -> None:
    """Its clients show them one by one: half a character is never among them."""
    text = "über € and 😀"
    async with served(tmp_path, saying(text, size=size)) as (client, _):
        body = {"inputs": "x", "parameters": {"details": True}}
        streamed = stream_events((await client.post("/generate_stream", json=body)).text)
        whole = (await client.post("/generate", json=body)).json()["details"]["tokens"]
    for tokens in ([each["token"] for each in streamed], whole):
        assert "".join(token["text"] for token in tokens if not token["special"]) == text
        assert len(tokens) == len(text.encode()) + 1


async def test_top_tokens_come_when_asked_for(tmp_path: Path) -> None:
    token = BYTES.tokens("a")[0]
    rich = Token(token.token_id, -0.5, -0.5, 1.0, alternatives=[Alternative(token.token_id, -0.5)])
    async with served(tmp_path, [[rich], [EOS]]) as (client, engine):
        response = await client.post(
            "/generate", json={"inputs": "x", "parameters": {"details": True, "top_n_tokens": 1}}
        )
    assert response.json()["details"]["top_tokens"][0][0]["text"] == "a"
    assert engine.requests[0][0].sampling.top_logprobs == 1


async def test_truncate_keeps_the_last_tokens(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        await client.post("/generate", json={"inputs": "abcdef", "parameters": {"truncate": 2}})
    assert engine.requests[0][0].prompt == [token.token_id for token in BYTES.tokens("ef")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"inputs": ""}, "`inputs` cannot be empty"),
        ({"inputs": "x", "parameters": {"temperature": 0.0}}, "`temperature` must be strictly positive"),
        ({"inputs": "x", "parameters": {"top_p": 1.0}}, "`top_p` must be > 0.0 and < 1.0"),
        ({"inputs": "x", "parameters": {"typical_p": 0.0}}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"inputs": "x", "parameters": {"top_k": 0}}, "`top_k` must be strictly positive"),
        ({"inputs": "x", "parameters": {"repetition_penalty": 0.0}}, "`repetition_penalty` must be strictly positive"),
        ({"inputs": "x", "parameters": {"frequency_penalty": 3.0}}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 0}}, "`max_new_tokens` must be strictly positive"),
        (
            {"inputs": "x", "parameters": {"max_new_tokens": 100000}},
            "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 1 `inputs` tokens and 100000 `max_new_tokens`",
        ),
        ({"inputs": "x", "parameters": {"best_of": 2}}, "you must use sampling when `best_of` is > 1"),
        (
            {"inputs": "x", "parameters": {"best_of": 2, "do_sample": True, "seed": 1}},
            "`seed` must not be set when `best_of` > 1",
        ),
        ({"inputs": "x", "parameters": {"top_n_tokens": -1}}, "`top_n_tokens` must be >= 0"),
        ({"inputs": "x", "parameters": {"stop": ["a"] * 17}}, "`stop` supports up to 16 stop sequences"),
        (
            {"inputs": "x", "parameters": {"grammar": {"type": "json", "value": {"title": "refused"}}}},
            "grammar is not valid: parameters.grammar.value",
        ),
        ({"inputs": "x", "parameters": {"adapter_id": "a"}}, "no adapter is named"),
        ({"inputs": "x", "parameters": {"grammar": {"type": "regex", "value": ""}}}, "empty"),
        ({"inputs": "x", "parameters": {"grammar": {"type": "json", "value": "{"}}}, "not JSON"),
        ({"inputs": "x", "parameters": {"grammar": {"type": "xml", "value": "{"}}}, "json_schema"),
        ({"inputs": "x", "parameters": {"tempreature": 1}}, "tempreature"),
        ({}, "inputs"),
    ],
)
async def test_bad_input_is_a_422_in_tgis_shape(tmp_path: Path, body: dict[str, Any], says: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        for path in ("/generate", "/"):
            response = await client.post(path, json=body)
            assert response.status_code == 422, response.text
            assert response.json()["error_type"] == "validation"
            assert response.json()["error"].startswith("Input validation error: ")
            assert says in response.json()["error"]


async def test_what_a_stream_cannot_do_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        for parameters in ({"best_of": 2, "do_sample": True}, {"decoder_input_details": True}):
            response = await client.post("/generate_stream", json={"inputs": "x", "parameters": parameters})
            assert response.status_code == 422


async def test_engine_errors_have_tgis_statuses(tmp_path: Path) -> None:
    for error, status, kind in (
        (EngineOverloaded("full"), 429, "overloaded"),
        (NumericError("NaN"), 424, "generation"),
    ):
        async with served(tmp_path, [error]) as (client, _):
            response = await client.post("/generate", json={"inputs": "x"})
        assert (response.status_code, response.json()["error_type"]) == (status, kind)


async def test_what_tgi_answers_in_plain_text_has_its_shape_here(tmp_path: Path) -> None:
    """Its own clients read JSON from every error; statuses are TGI's."""
    json_type = {"content-type": "application/json"}
    async with served(tmp_path, saying("Hi"), api_keys="a", body_limit_bytes=1024) as (client, _):
        key = {"authorization": "Bearer a"}
        told = {
            401: await client.post("/generate", json={"inputs": "x"}),
            413: await client.post("/generate", json={"inputs": "x" * 2000}, headers=key),
            415: await client.post("/generate", content=b"{}", headers={**key, "content-type": "text/plain"}),
            422: await client.post("/generate", content=b"{", headers={**key, **json_type}),
        }
    for status, response in told.items():
        assert response.status_code == status
        assert TgiError.model_validate(response.json()).error
    assert told[401].headers["www-authenticate"] == "Bearer"
    assert {told[status].json()["error_type"] for status in (413, 415, 422)} == {"validation"}


async def test_info_tells_the_limits(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        info = Info.model_validate((await client.get("/info")).json())
    assert info.max_total_tokens == 4096
    assert info.model_id == "tiny"


async def test_chat_tokenize_shows_the_prompt(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        response = await client.post("/chat_tokenize", json={"messages": [{"role": "user", "content": "ä"}]})
    body = response.json()
    assert body["templated_text"] == "<|user|>user: ä<|eos|>"
    assert body["tokenize_response"][0]["text"] == "<|user|>"
    assert body["tokenize_response"][-1]["stop"] == len("user: ä")
