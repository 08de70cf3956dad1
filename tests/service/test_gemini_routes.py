"""Gemini's routes against a scripted engine; `test_clients` has its own client against a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from engine import GrammarDeadEnd
from engine.messages import Finish, FinishReason
from schemas.gemini import GeminiCountReply, GeminiError, GeminiModels, GeminiReply, GeminiSchema
from service.dialects.gemini_schemas import json_schema_of
from tests.engine.scripted import Step
from tests.service.houses import BYTES, Says, bytes_of, saying, served
from tests.service.test_tools import CALL

pytestmark = pytest.mark.anyio
URL = "/v1beta/models/tiny:generateContent"
STREAM = "/v1beta/models/tiny:streamGenerateContent?alt=sse"
USER = [{"role": "user", "parts": [{"text": "x"}]}]
WEATHER = {"name": "weather", "parameters": {"type": "OBJECT"}}
SCHEMA = {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}


def body(**more: Any) -> dict[str, Any]:
    return {"contents": USER, **more}


def config(**more: Any) -> dict[str, Any]:
    return body(generationConfig=more)


def events(text: str) -> list[dict[str, Any]]:
    found = [json.loads(block.removeprefix("data: ")) for block in text.strip().split("\n\n")]
    for each in found:
        if "error" not in each:
            GeminiReply.model_validate(each)
    return found


async def test_an_answer_has_geminis_shape(tmp_path: Path) -> None:
    asked = {"maxOutputTokens": 40, "responseLogprobs": True, "logprobs": 1, "topK": 5, "seed": 3, "temperature": 0.5}
    async with served(tmp_path, saying("Grüß dich")) as (client, engine):
        instruction = {"parts": [{"text": "Be kind."}]}
        response = await client.post(URL, json={**config(**asked), "systemInstruction": instruction})
    assert response.status_code == 200, response.text
    reply = GeminiReply.model_validate_json(response.content)
    (candidate,) = reply.candidates
    assert candidate.content == {"role": "model", "parts": [{"text": "Grüß dich"}]}
    assert (candidate.finish_reason, reply.model_version) == ("STOP", "tiny")
    assert candidate.logprobs_result is not None
    assert len(candidate.logprobs_result.chosen_candidates) == len("Grüß dich".encode())
    usage = reply.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count
    sampling = engine.requests[0][0].sampling
    assert (sampling.max_tokens, sampling.top_k, sampling.seed, sampling.temperature) == (40, 5, 3, 0.5)
    assert bytes_of(engine.requests[0][0].prompt) == b"system: Be kind.user: x"


async def test_newer_clients_leave_out_the_beta(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        for url in (URL, STREAM):
            assert (await client.post(url.replace("v1beta", "v1"), json=body())).status_code == 200
        wrong = await client.post(URL.replace("v1beta", "v1"), json={})
    assert GeminiError.model_validate_json(wrong.content).error.status == "INVALID_ARGUMENT"


async def test_names_may_be_spelled_with_underscores(tmp_path: Path) -> None:
    asked = {"contents": USER, "generation_config": {"max_output_tokens": 7, "stop_sequences": ["q"]}}
    async with served(tmp_path, saying("Hi")) as (client, engine):
        assert (await client.post(URL, json=asked)).status_code == 200
    assert engine.requests[0][0].sampling.max_tokens == 7
    assert engine.requests[0][0].sampling.stop == (b"q",)


async def test_a_stream_joins_to_the_answer_and_ends_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path, saying('{"a": "€"}', size=1)) as (client, _):
        asked = config(responseMimeType="application/json", responseSchema=SCHEMA)
        response = await client.post(STREAM, json=asked)
    told = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "".join(each["candidates"][0]["content"]["parts"][0]["text"] for each in told) == '{"a": "€"}'
    assert [each["candidates"][0].get("finishReason") for each in told] == [*[None] * (len(told) - 1), "STOP"]
    assert told[-1]["formwork"]["grammar"]


@pytest.mark.parametrize("url", [URL, STREAM])
async def test_a_call_is_told_whole(tmp_path: Path, url: str) -> None:
    asked = body(
        tools=[{"functionDeclarations": [WEATHER]}],
        toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    )
    async with served(tmp_path, Says(CALL), tool_call_parser="hermes") as (client, _):
        response = await client.post(url, json=asked)
    reply = events(response.text)[-1] if url is STREAM else response.json()
    (part,) = reply["candidates"][0]["content"]["parts"]
    assert (part["functionCall"]["name"], part["functionCall"]["args"]) == ("weather", {"city": "Köln"})
    assert reply["candidates"][0]["finishReason"] == "STOP"


async def test_a_conversation_of_contents_is_one_of_turns(tmp_path: Path) -> None:
    """A result without an id belongs to the earliest call of its function that has none yet."""
    contents = [
        *USER,
        {
            "role": "model",
            "parts": [
                {"text": "Hm.", "thought": True},
                {"text": "Let me "},
                {"text": "see.", "thoughtSignature": "c2lnbmVk"},
                {"functionCall": {"name": "weather", "args": {"city": "Köln"}}},
                {"functionCall": {"name": "weather", "args": {}, "id": "own"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"sky": "blue"}}},
                {"functionResponse": {"name": "weather", "response": {"sky": "grey"}}},
                {"text": "And?"},
            ],
        },
    ]
    template = (
        "{% for m in messages %}[{{ m.role }} {{ m.reasoning_content }} {{ m.content }}"
        "{% for c in m.tool_calls %} {{ c.id }}{{ c.function.arguments | tojson }}{% endfor %}"
        " {{ m.tool_call_id }}]{% endfor %}"
    )
    async with served(tmp_path, saying("Fine."), template) as (client, engine):
        response = await client.post(URL, json={"contents": contents})
    assert response.status_code == 200, response.text
    turns = bytes_of(engine.requests[0][0].prompt).decode()
    assert turns == (
        '[user  x ][assistant Hm. Let me see. call_0{"city": "Köln"} own{} ]'
        '[tool  {"sky": "blue"} call_0][tool  {"sky": "grey"} own][user  And? ]'
    )


@pytest.mark.parametrize("wanted", [False, True])
async def test_thoughts_are_told_to_those_who_ask(tmp_path: Path, wanted: bool) -> None:
    async with served(tmp_path, Says("<think>Hm.</think>Yes."), reasoning_parser="think") as (client, _):
        reply = (await client.post(URL, json=config(thinkingConfig={"includeThoughts": wanted}))).json()
    parts = reply["candidates"][0]["content"]["parts"]
    assert parts == [*([{"text": "Hm.", "thought": True}] if wanted else []), {"text": "Yes."}]
    assert reply["usageMetadata"]["thoughtsTokenCount"] == len("<think>Hm.</think>")


async def test_an_enum_is_a_choice_of_bare_texts(tmp_path: Path) -> None:
    schema = {"type": "STRING", "enum": ["blue", "grey"]}
    async with served(tmp_path, saying("blue")) as (client, engine):
        asked = config(responseMimeType="text/x.enum", responseSchema=schema, candidateCount=2)
        reply = (await client.post(URL, json=asked)).json()
    assert [each["content"]["parts"][0]["text"] for each in reply["candidates"]] == ["blue", "blue"]
    assert [each["index"] for each in reply["candidates"]] == [0, 1]
    assert engine.requests[0][0].grammar is not None


async def test_a_cut_answer_says_so(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("ab"), Finish(reason=FinishReason.LENGTH)]
    async with served(tmp_path, steps) as (client, _):
        reply = (await client.post(URL, json=body())).json()
    assert reply["candidates"][0]["finishReason"] == "MAX_TOKENS"


async def test_a_refusal_is_the_reason_of_the_end(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "x-refusal": True}
    asked = config(responseMimeType="application/json", responseJsonSchema=schema)
    async with served(tmp_path, saying('{"refusal": "No."}')) as (client, _):
        whole = (await client.post(URL, json=asked)).json()["candidates"][0]
        last = events((await client.post(STREAM, json=asked)).text)[-1]["candidates"][0]
    for each in (whole, last):
        assert (each["finishReason"], each["finishMessage"]) == ("SAFETY", "No.")
    assert whole["content"]["parts"] == [{"text": ""}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (config(responseSchema=SCHEMA), "generationConfig.responseMimeType"),
        (config(responseMimeType="text/x.enum"), "generationConfig.responseSchema"),
        (
            config(responseMimeType="application/json", responseSchema=SCHEMA, responseJsonSchema={}),
            "generationConfig.responseJsonSchema",
        ),
        (
            config(responseMimeType="application/json", responseJsonSchema={"title": "refused"}),
            "generationConfig.responseJsonSchema",
        ),
        (
            config(responseMimeType="application/json", responseSchema={**SCHEMA, "propertyOrdering": ["b"]}),
            "generationConfig.responseSchema.propertyOrdering",
        ),
        (config(responseMimeType="application/json", responseSchema={**SCHEMA, "not": {}}), "generationConfig"),
        (
            config(responseMimeType="application/json", responseSchema=SCHEMA, maxOutputTokens=2),
            "generationConfig.maxOutputTokens",
        ),
        (config(logprobs=2), "generationConfig.logprobs"),
        (config(candidateCount=100), "generationConfig.candidateCount"),
        (config(speechConfig={}), "generationConfig.speechConfig"),
        (body(contents=[{"parts": [{"inlineData": {}}]}]), "contents.0.parts.0.inlineData"),
        (body(contents=[{"parts": [{}]}]), "contents.0.parts.0"),
        (body(contents=[{"parts": [{"text": "x"}, {"functionCall": {"name": "f"}}]}]), "contents.0.parts.1"),
        (body(contents=[{"role": "user", "parts": [{"text": "x", "thought": True}]}]), "contents.0.parts.0"),
        (body(systemInstruction={"parts": [{"functionCall": {"name": "f"}}]}), "systemInstruction.parts.0"),
        (body(cachedContent="c"), "cachedContent"),
        (body(safetySettings=[{"category": "c", "threshold": "BLOCK_LOW_AND_ABOVE"}]), "safetySettings.0.threshold"),
        (body(tools=[{"googleSearch": {}}]), "tools.0"),
        (body(toolConfig={"functionCallingConfig": {"mode": "ANY"}}), "toolConfig.functionCallingConfig"),
    ],
)
async def test_what_is_wrong_is_named_in_this_dialects_words(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post(URL, json=change)
    assert response.status_code in {400, 422}, response.text
    detail = GeminiError.model_validate_json(response.content).error
    assert (detail.code, detail.status) == (response.status_code, "INVALID_ARGUMENT")
    assert detail.details[0]["fieldViolations"][0]["field"].startswith(field)
    assert not engine.requests


async def test_a_functions_schema_is_refused_where_it_stands(tmp_path: Path) -> None:
    wrong = {"name": "g", "parametersJsonSchema": {"type": "object", "properties": {"a": {"oneOf": "x"}}}}
    tools = [{"functionDeclarations": [WEATHER]}, {"functionDeclarations": [wrong]}]
    async with served(tmp_path, Says(CALL), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json=body(tools=tools))
    assert response.status_code == 400, response.text
    violation = response.json()["error"]["details"][0]["fieldViolations"][0]
    assert violation["field"] == "tools.1.functionDeclarations.0.parameters"


async def test_errors_have_googles_words(tmp_path: Path) -> None:
    async with served(tmp_path, [BYTES.tokens("ab"), GrammarDeadEnd("stuck")], api_keys="k") as (client, _):
        key = {"x-goog-api-key": "k"}
        assert (await client.post(URL, json=body())).json()["error"]["status"] == "UNAUTHENTICATED"
        missing = await client.post("/v1beta/models/other:generateContent", json=body(), headers=key)
        told = events((await client.post(STREAM, json=body(), headers=key)).text)
        array = await client.post(STREAM.removesuffix("?alt=sse"), json=body(), headers=key)
    assert (missing.status_code, missing.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert (told[-1]["error"]["code"], told[-1]["error"]["status"]) == (500, "INTERNAL")
    assert (array.status_code, array.json()["error"]["details"][0]["fieldViolations"][0]["field"]) == (400, "alt")


async def test_tokens_are_counted_and_models_are_listed(tmp_path: Path) -> None:
    url = "/v1beta/models/tiny:countTokens"
    async with served(tmp_path, saying("Hi")) as (client, engine):
        bare = await client.post(url, json={"contents": USER})
        whole = await client.post(url, json={"generateContentRequest": body(model="models/tiny")})
        neither = await client.post(url, json={})
        await client.post(URL, json=body())
        listed = GeminiModels.model_validate_json((await client.get("/v1beta/models")).content)
        one = (await client.get("/v1beta/models/small")).json()
    count = len(engine.requests[0][0].prompt)
    assert GeminiCountReply.model_validate_json(bare.content).total_tokens == count
    assert whole.json() == {"totalTokens": count}
    assert neither.status_code == 400
    assert [each.name for each in listed.models] == ["models/tiny", "models/small"]
    assert one["name"] == "models/small"


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "STRING", "nullable": True}, ["a", None], [1]),
        ({"type": "STRING", "enum": ["a"], "nullable": True, "format": "enum"}, ["a", None], ["b"]),
        ({"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True}, ["a", 1, None], [True]),
        ({"type": "INTEGER", "format": "int32"}, [2**31 - 1], [2**31]),
        ({"type": "NUMBER", "format": "double", "minimum": 1, "maximum": 2}, [1.5], [3]),
        ({"type": "ARRAY", "items": {"type": "NULL"}, "minItems": "1", "maxItems": "2"}, [[None]], [[], [1]]),
        ({"type": "STRING", "minLength": 2, "maxLength": "3", "pattern": "^a"}, ["ab"], ["a", "bb", "abcd"]),
        ({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}, [{"a": 1}], [{}]),
        (
            {"ref": "#/defs/tree", "defs": {"tree": {"type": "ARRAY", "items": {"ref": "#/defs/tree"}}}},
            [[[], [[]]]],
            [[1]],
        ),
        (
            {"ref": "#/defs/a", "nullable": True, "defs": {"a": {"type": "STRING"}}},
            ["x", None],
            [1],
        ),
    ],
)
def test_a_schema_means_the_same_in_json_schemas_words(
    schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    told = Draft202012Validator(json_schema_of(GeminiSchema.model_validate(schema), ""))
    assert all(told.is_valid(value) for value in valid)
    assert not any(told.is_valid(value) for value in invalid)


def test_properties_stand_in_the_order_that_is_wanted() -> None:
    properties = {name: {"type": "STRING"} for name in "abc"}
    schema = GeminiSchema.model_validate({"type": "OBJECT", "properties": properties, "propertyOrdering": ["c", "a"]})
    assert list(json_schema_of(schema, "")["properties"]) == ["c", "a", "b"]
