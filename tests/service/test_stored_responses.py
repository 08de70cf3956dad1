"""`/v1/responses` with a store: conversations that go on by id. OpenAI's own client types judge the shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from openai.pagination import SyncCursorPage
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from schemas.responses import InputItems, ResponseDeleted, ResponseObject, ResponseTokens
from tests.service.houses import Says, bytes_of, saying, served
from tests.service.test_responses_route import WEATHER, events
from tests.service.test_tools import CALL

pytestmark = pytest.mark.anyio
URL = "/v1/responses"
ITEMS: TypeAdapter[list[ResponseItem]] = TypeAdapter(list[ResponseItem])
STORE: dict[str, Any] = {"response_store_bytes": 1_000_000}
KEYS: dict[str, Any] = {"api_keys": "a,b"}


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def asked(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The response, whole or at the end of a stream."""
    response = await client.post(URL, json=body)
    assert response.status_code == 200, response.text
    told: dict[str, Any] = events(response.text)[-1]["response"] if body.get("stream") else response.json()
    return told


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_goes_on_by_id(tmp_path: Path, stream: bool) -> None:
    """Instructions are those of each request; all else that was said is remembered."""
    async with served(tmp_path, saying("Hi"), **STORE) as (client, engine):
        first = await asked(client, input="One", instructions="Be kind.", stream=stream)
        second = await asked(client, input="Two", previous_response_id=first["id"], stream=stream)
        third = await asked(client, input="Three", previous_response_id=second["id"], instructions="Be brief.")
    assert (first["store"], first["previous_response_id"]) == (True, None)
    assert second["previous_response_id"] == first["id"]
    prompts = [bytes_of(request.prompt).decode() for request, _ in engine.requests]
    assert prompts[0] == "system: Be kind.user: One"
    assert prompts[1] == "user: Oneassistant: Hiuser: Two"
    assert prompts[2] == "system: Be brief.user: Oneassistant: Hiuser: Twoassistant: Hiuser: Three"
    assert third["store"] is True


async def test_calls_and_reasoning_are_remembered(tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }} {{ m.reasoning_content }} {{ m.content }}"
        "{% for c in m.tool_calls %} {{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}]{% endfor %}"
    )
    engine = Says("<think>Hm.</think>" + CALL, "Fine.")
    parsers: dict[str, Any] = {"reasoning_parser": "think", "tool_call_parser": "hermes"}
    async with served(tmp_path, engine, template, **STORE, **parsers) as (client, _):
        first = await asked(client, input="x", tools=[WEATHER], tool_choice="required")
        (call,) = [item for item in first["output"] if item["type"] == "function_call"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        second = {"input": [output], "previous_response_id": first["id"], "reasoning": {"effort": "none"}}
        await asked(client, **second)
    assert engine.prompts()[1].decode() == '[user  x][assistant Hm.  weather{"city": "Köln"}][tool  sunny]'


async def test_a_stored_response_is_told_again_until_it_is_deleted(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), **STORE) as (client, _):
        first = await asked(client, input="One", metadata={"a": "b"})
        again = await client.get(f"{URL}/{first['id']}", params={"include[]": "message.output_text.logprobs"})
        deleted = await client.delete(f"{URL}/{first['id']}")
        gone = await client.get(f"{URL}/{first['id']}")
        twice = await client.delete(f"{URL}/{first['id']}")
        stale = await client.post(URL, json={"input": "Two", "previous_response_id": first["id"]})
    assert again.json() == first
    Response.model_validate(ResponseObject.model_validate_json(again.content).model_dump())
    assert ResponseDeleted.model_validate_json(deleted.content).id == first["id"]
    assert (gone.status_code, twice.status_code, stale.status_code) == (404, 404, 400)
    assert stale.json()["error"]["code"] == "previous_response_not_found"
    assert stale.json()["error"]["param"] == "previous_response_id"


async def test_the_items_of_a_conversation_are_listed_in_pages(tmp_path: Path) -> None:
    parts = [{"type": "input_text", "text": "Two"}]
    async with served(tmp_path, saying("Hi"), **STORE) as (client, _):
        first = await asked(client, input="One")
        second = await asked(client, input=[{"role": "user", "content": parts}], previous_response_id=first["id"])
        url = f"{URL}/{second['id']}/input_items"
        whole = (await client.get(url, params={"order": "asc"})).json()
        page = (await client.get(url, params={"limit": 2})).json()
        rest = (await client.get(url, params={"limit": 2, "after": page["last_id"]})).json()
    for each in (whole, page, rest):
        InputItems.model_validate(each)
        SyncCursorPage[Any].model_validate(each)
    ITEMS.validate_python(whole["data"])
    texts = [item["content"][0]["text"] for item in whole["data"]]
    assert texts == ["One", "Hi", "Two"]
    assert [*page["data"], *rest["data"]] == whole["data"][::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert (whole["first_id"], whole["last_id"]) == (whole["data"][0]["id"], whole["data"][-1]["id"])


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("?stream=true", "stream"),
        ("?starting_after=3", "starting_after"),
        ("?include=file_search_call.results", "include"),
        ("/input_items?limit=0", "limit"),
        ("/input_items?limit=many", "limit"),
        ("/input_items?order=up", "order"),
        ("/input_items?after=msg_unknown", "after"),
        ("/input_items?limit=1&limit=2", "limit"),
    ],
)
async def test_what_is_wrong_in_a_query_is_named(tmp_path: Path, path: str, param: str) -> None:
    async with served(tmp_path, saying("Hi"), **STORE) as (client, _):
        first = await asked(client, input="One")
        response = await client.get(f"{URL}/{first['id']}{path}")
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)


async def test_a_key_finds_its_own_responses_only(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), **STORE, **KEYS) as (client, _):
        first = (await client.post(URL, json={"input": "One"}, headers=key("a"))).json()
        for path in ("", "/input_items"):
            assert (await client.get(f"{URL}/{first['id']}{path}", headers=key("b"))).status_code == 404
            assert (await client.get(f"{URL}/{first['id']}{path}", headers=key("a"))).status_code == 200
            assert (await client.get(f"{URL}/{first['id']}{path}")).status_code == 401
        assert (await client.delete(f"{URL}/{first['id']}", headers=key("b"))).status_code == 404
        follow = {"input": "Two", "previous_response_id": first["id"]}
        assert (await client.post(URL, json=follow, headers=key("b"))).status_code == 400
        assert (await client.post(URL, json=follow, headers=key("a"))).status_code == 200


async def test_nothing_is_stored_that_the_client_or_the_server_does_not_want(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), **STORE) as (client, _):
        declined = await asked(client, input="One", store=False)
        assert (await client.get(f"{URL}/{declined['id']}")).status_code == 404
    async with served(tmp_path, saying("Hi")) as (client, _):
        asked_for = await asked(client, input="One", store=True)
        missing = await client.get(f"{URL}/{asked_for['id']}")
        refused = await client.post(URL, json={"input": "Two", "previous_response_id": asked_for["id"]})
    assert (declined["store"], asked_for["store"]) == (False, False)
    assert missing.status_code == 404
    assert "response_store_bytes" in missing.json()["error"]["message"]
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")


async def test_a_response_that_does_not_fit_says_so(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), response_store_bytes=600) as (client, _):
        assert (await asked(client, input="One"))["store"] is False


async def test_a_prompt_is_counted_as_it_would_be_read(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), **STORE) as (client, engine):
        first = await asked(client, input="One")
        body = {"input": "Two", "instructions": "Be kind.", "previous_response_id": first["id"]}
        counted = await client.post(f"{URL}/input_tokens", json=body)
        await asked(client, **body)
    told = ResponseTokens.model_validate_json(counted.content)
    assert told.input_tokens == len(engine.requests[-1][0].prompt)


async def test_vllms_words_for_a_constraint_work_here_too(tmp_path: Path) -> None:
    async with served(tmp_path, saying("a")) as (client, engine):
        free, chosen = {"input": "One"}, {"input": "One", "structured_outputs": {"choice": ["a", "b"]}}
        for body in (free, chosen):
            await asked(client, **body)
        twice = await client.post(URL, json={**chosen, "text": {"format": {"type": "json_object"}}})
    assert [request.grammar is not None for request, _ in engine.requests] == [False, True]
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "structured_outputs.choice")
