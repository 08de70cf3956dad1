"""Formwork's own words, in every dialect: what is asked under `formwork`, and what is told there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.completions import Completion
from tests.service.houses import BYTES, saying, served
from tests.service.test_streams import DIALECTS, Dialect, told

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NAMED = {"name": "n", "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}}
RESPONSES = Dialect("/v1/responses", {"input": "x"}, str, str)
TRANSLATED = {name: each for name, each in {**DIALECTS, "responses": RESPONSES}.items() if name != "chat"}
BARE = ("completions", "llama.cpp", "sglang", "tgi")


async def ask(client: httpx.AsyncClient, dialect: Dialect, *, stream: bool, **formwork: Any) -> httpx.Response:
    """The dialect's least request with these words."""
    body: dict[str, Any] = {**dialect.body, "formwork": formwork}
    if dialect.url == "/generate" and "inputs" in body:
        body["parameters"] = {"details": True}
    url = dialect.stream_url or dialect.url if stream else dialect.url
    more = dialect.streamed if stream else {"stream": False} if dialect.url.startswith("/api") else {}
    return await client.post(url, json={**body, **more})


def blocks(value: Any) -> Iterator[dict[str, Any]]:
    """Every `formwork` in a reply, wherever the dialect puts it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "formwork" and inner:
                yield inner
            else:
                yield from blocks(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from blocks(inner)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", TRANSLATED.values(), ids=TRANSLATED)
async def test_values_are_told_at_the_end(tmp_path: Path, dialect: Dialect, stream: bool) -> None:
    async with served(tmp_path, saying('{"a": 12}')) as (client, _):
        assert (await client.post("/v1/grammars", json=NAMED)).status_code == 200
        response = await ask(client, dialect, stream=stream, grammar="n")
    assert response.status_code == 200, response.text
    *_, block = blocks(list(told(response.text)) if stream else response.json())
    choice = block["choices"][0] if "choices" in block else block  # an event of OpenAI's is about one choice
    (field,) = choice["fields"]
    assert (field["path"], field["value"], field["tokens"]) == ("/a", 12, 2)
    assert block["watermark"]["applied"] in {True, False}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", TRANSLATED.values(), ids=TRANSLATED)
async def test_events_are_refused_where_none_would_come(tmp_path: Path, dialect: Dialect, stream: bool) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await ask(client, dialect, stream=stream, events="fields")
    assert response.status_code in {400, 422}
    assert "formwork.events" in response.text
    assert not engine.requests


async def test_events_need_a_stream(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await ask(client, DIALECTS["chat"], stream=False, events="fields")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "formwork.events")


@pytest.mark.parametrize("name", BARE)
async def test_a_bare_prompt_is_the_whole_prompt(tmp_path: Path, name: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await ask(client, DIALECTS[name], stream=False, schema_in_prompt=True)
    assert response.status_code in {400, 422}
    assert "formwork.schema_in_prompt" in response.text


@pytest.mark.parametrize("name", ["chat", "tgi", "completions"])
@pytest.mark.parametrize(
    "more",
    [{"whitespace": "compact"}, {"property_order": "any"}, {"formats": "assert"}],
    ids=lambda more: next(iter(more)),
)
async def test_a_named_constraint_is_spelled_as_it_was_named(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    async with served(tmp_path, saying("{}")) as (client, _):
        await client.post("/v1/grammars", json=NAMED)
        response = await ask(client, DIALECTS[name], stream=False, grammar="n", **more)
    assert response.status_code in {400, 422}
    assert f"formwork.{next(iter(more))}" in response.text


async def test_a_completions_block_has_every_choice_that_is_answered(tmp_path: Path) -> None:
    """Of two prompts the better of two each, numbered as the choices are."""
    body = {"prompt": ["x", "y"], "best_of": 2, "guided_json": SCHEMA}
    async with served(tmp_path, saying('{"a": 12}')) as (client, _):
        reply = Completion.model_validate_json((await client.post("/v1/completions", json=body)).content).model_dump()
        stream = {"prompt": ["x", "y"], "stream": True}
        events = list(told((await client.post("/v1/completions", json=stream)).text))
    choices = reply["formwork"]["choices"]
    assert [each["index"] for each in choices] == [each["index"] for each in reply["choices"]] == [0, 1]
    assert [each["fields"][0]["value"] for each in choices] == [12, 12]
    ends = [each["formwork"]["index"] for each in events if each["choices"] and each["choices"][0]["finish_reason"]]
    assert sorted(ends) == [0, 1]
    assert len(BYTES.tokens('{"a": 12}')) + 1 == reply["usage"]["completion_tokens"] / 4
