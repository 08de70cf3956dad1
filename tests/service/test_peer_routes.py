"""The native routes of Ollama, llama.cpp, SGLang, SageMaker, Vertex AI and KServe, against a scripted engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import GrammarDeadEnd
from engine.messages import Alternative, Finish, FinishReason, Token
from schemas.kserve import InferReply
from schemas.ollama import OllamaChatReply, OllamaGenerateReply
from schemas.peers import LlamaReply, SglangReply
from tests.engine.scripted import Step
from tests.service.houses import BYTES, EOS, Says, bytes_of, saying, served
from tests.service.test_tools import CALL, WEATHER

pytestmark = pytest.mark.anyio
SCHEMA = {"type": "object"}


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.strip().split("\n")]


def data(text: str) -> list[Any]:
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


# Ollama

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}


async def test_ollamas_chat_streams_lines_unless_told_not_to(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Grüß €")) as (client, engine):
        streamed = await client.post("/api/chat", json=CHAT)
        whole = await client.post("/api/chat", json={**CHAT, "stream": False, "options": {"num_predict": 9, "seed": 4}})
    assert streamed.headers["content-type"] == "application/x-ndjson"
    told = [OllamaChatReply.model_validate(each) for each in lines(streamed.text)]
    assert "".join(each.message.content for each in told) == "Grüß €"
    assert [each.done for each in told] == [False] * (len(told) - 1) + [True]
    assert told[-1].done_reason == "stop"
    assert told[-1].eval_count == len("Grüß €".encode()) + 1
    assert OllamaChatReply.model_validate_json(whole.content).message.content == "Grüß €"
    assert engine.requests[0][0].sampling.temperature == 0.8
    assert (engine.requests[1][0].sampling.max_tokens, engine.requests[1][0].sampling.seed) == (9, 4)


@pytest.mark.parametrize("media", [None, "application/x-www-form-urlencoded"])
async def test_ollamas_routes_do_not_ask_what_a_body_is(tmp_path: Path, media: str | None) -> None:
    """Its own examples, run by curl, call theirs a form; but what a web page sends anywhere is not taken."""
    headers = {} if media is None else {"content-type": media}
    content = json.dumps({**CHAT, "stream": False})
    async with served(tmp_path, saying("Hi")) as (client, _):
        told = await client.post("/api/chat", content=content, headers=headers)
        assert (told.status_code, told.json()["message"]["content"]) == (200, "Hi")
        for path, more in (("/api/chat", {"origin": "https://example.com"}), ("/v1/chat/completions", {})):
            assert (await client.post(path, content=content, headers={**headers, **more})).status_code == 415


@pytest.mark.parametrize("format_", ["json", SCHEMA])
async def test_ollamas_format_is_a_constraint(tmp_path: Path, format_: Any) -> None:
    async with served(tmp_path, saying("{}")) as (client, engine):
        for path, body in (("/api/chat", CHAT), ("/api/generate", {"prompt": "x"})):
            response = await client.post(path, json={**body, "format": format_, "stream": False})
            assert response.status_code == 200, response.text
    assert all(plan is not None for _, plan in engine.requests)


@pytest.mark.parametrize("stream", [False, True])
async def test_ollamas_calls_have_their_arguments_as_a_value(tmp_path: Path, stream: bool) -> None:
    engine = Says(f"Well. {CALL}")
    body = {**CHAT, "tools": [WEATHER], "stream": stream}
    async with served(tmp_path, engine, tool_call_parser="hermes") as (client, _):
        response = await client.post("/api/chat", json=body)
    told = lines(response.text)
    calls = [call for each in told for call in each["message"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in calls] == [{"city": "Köln"}]
    assert "".join(each["message"]["content"] for each in told) == "Well. "


async def test_ollamas_generate_uses_the_template_unless_raw(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post("/api/generate", json={"prompt": "x", "system": "s", "stream": False})
        await client.post("/api/generate", json={"prompt": "x", "raw": True, "stream": False})
    assert OllamaGenerateReply.model_validate_json(response.content).response == "Hi"
    assert bytes_of(engine.requests[0][0].prompt) == b"system: suser: x"
    assert bytes_of(engine.requests[1][0].prompt) == b"x"


async def test_ollamas_thinking_is_told_apart_or_declined(tmp_path: Path) -> None:
    engine = Says("<think>Hm.</think>Yes.", "No.")
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        thought = (await client.post("/api/chat", json={**CHAT, "stream": False, "think": True})).json()
        plain = (await client.post("/api/chat", json={**CHAT, "stream": False, "think": False})).json()
    assert (thought["message"]["thinking"], thought["message"]["content"]) == ("Hm.", "Yes.")
    assert plain["message"] == {"role": "assistant", "content": "No."}


async def test_ollamas_errors_are_sentences(tmp_path: Path) -> None:
    async with served(tmp_path, [BYTES.tokens("a"), GrammarDeadEnd("stuck")]) as (client, _):
        missing = await client.post("/api/chat", json={**CHAT, "model": "other"})
        schema = await client.post("/api/chat", json={**CHAT, "format": {"title": "refused"}})
        mirostat = await client.post("/api/chat", json={**CHAT, "options": {"mirostat": 2}})
        late = lines((await client.post("/api/chat", json=CHAT)).text)
    assert (missing.status_code, schema.status_code, mirostat.status_code) == (404, 400, 400)
    assert schema.json()["error"].startswith("format: ")
    assert "mirostat" in mirostat.json()["error"]
    assert "stuck" in late[-1]["error"]


async def test_ollamas_clients_find_the_models(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        tags = (await client.get("/api/tags")).json()
        version = (await client.get("/api/version")).json()
    assert [each["name"] for each in tags["models"]] == ["tiny", "small"]
    assert version["version"]


# llama.cpp


async def test_llama_cpps_completion(tmp_path: Path) -> None:
    body = {"prompt": "x", "n_predict": 7, "json_schema": SCHEMA, "seed": -1, "logit_bias": [[5, False]]}
    async with served(tmp_path, saying("{}")) as (client, engine):
        whole = await client.post("/completion", json=body)
        streamed = data((await client.post("/completion", json={**body, "stream": True})).text)
    answer = LlamaReply.model_validate_json(whole.content)
    assert (answer.content, answer.stop, answer.stop_type, answer.tokens_predicted) == ("{}", True, "eos", 3)
    events = [LlamaReply.model_validate(each) for each in streamed]
    assert "".join(each.content for each in events) == "{}"
    assert [each.stop for each in events] == [False] * (len(events) - 1) + [True]
    request, plan = engine.requests[0]
    assert plan is not None
    assert (request.sampling.max_tokens, request.sampling.logit_bias) == (7, {5: -100.0})


async def test_llama_cpps_probabilities(tmp_path: Path) -> None:
    token = BYTES.tokens("a")[0].token_id
    rich = Token(token, -0.5, -0.5, 1.0, alternatives=[Alternative(token, -0.5)])
    async with served(tmp_path, [[rich], [EOS]]) as (client, _):
        answer = (await client.post("/completion", json={"prompt": "x", "n_probs": 1})).json()
        refused = await client.post("/completion", json={"prompt": "x", "post_sampling_probs": True})
    (told,) = answer["completion_probabilities"]
    assert (told["token"], told["logprob"], told["top_logprobs"][0]["token"]) == ("a", -0.5, "a")
    assert refused.status_code == 400


# SGLang


async def test_sglangs_generate_shares_tgis_path(tmp_path: Path) -> None:
    sampling = {"max_new_tokens": 9, "json_schema": json.dumps(SCHEMA), "temperature": 0}
    body = {"text": "x", "sampling_params": sampling, "return_logprob": True, "return_text_in_logprobs": True}
    async with served(tmp_path, saying("{}")) as (client, engine):
        response = await client.post("/generate", json=body)
        several = (await client.post("/generate", json={"input_ids": [5], "sampling_params": {"n": 2}})).json()
        tgi = (await client.post("/generate", json={"inputs": "x"})).json()
    answer = SglangReply.model_validate_json(response.content)
    assert answer.text == "{}"
    assert answer.meta_info["finish_reason"] == {"type": "stop", "matched": 256}
    assert answer.meta_info["output_token_logprobs"][0] == [-0.5, BYTES.tokens("{")[0].token_id, "{"]
    assert engine.requests[0][1] is not None
    assert [each["text"] for each in several] == ["{}", "{}"]
    assert tgi == {"generated_text": "{}"}


async def test_sglangs_stream_has_the_text_so_far(tmp_path: Path) -> None:
    async with served(tmp_path, saying("abc", size=1)) as (client, _):
        response = await client.post("/generate", json={"text": "x", "stream": True})
    *events, done = data(response.text)
    assert done == "[DONE]"
    texts = [SglangReply.model_validate(each).text for each in events]
    assert texts[:3] == ["a", "ab", "abc"]
    assert events[-1]["meta_info"]["completion_tokens"] == 4


async def test_sglangs_stop_string_can_stay(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("a END"), Finish(reason=FinishReason.STOP, stop=b"END")]
    async with served(tmp_path, steps) as (client, _):
        for keep, text in ((True, "a END"), (False, "a ")):
            sampling = {"stop": "END", "no_stop_trim": keep}
            answer = (await client.post("/generate", json={"text": "x", "sampling_params": sampling})).json()
            assert answer["text"] == text
            assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "END"}


# SageMaker


async def test_invocations_take_three_kinds_of_bodies(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        chat = (await client.post("/invocations", json={"messages": [{"role": "user", "content": "x"}]})).json()
        text = (await client.post("/invocations", json={"prompt": "x"})).json()
        tgi = (await client.post("/invocations", json={"inputs": "x"})).json()
        streamed = await client.post("/invocations", json={"inputs": "x", "stream": True})
        none = await client.post("/invocations", json={})
    assert chat["choices"][0]["message"]["content"] == "Hi"
    assert text["choices"][0]["text"] == "Hi"
    assert tgi == [{"generated_text": "Hi"}]
    assert "generated_text" in streamed.text
    assert (none.status_code, none.json()["error_type"]) == (422, "validation")


# Vertex AI


async def test_vertex_takes_several_bodies_and_gives_texts(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "x"}]}
    full = {"inputs": "Say: ", "parameters": {"return_full_text": True}}
    async with served(tmp_path, saying("Hi")) as (client, engine):
        answer = await client.post("/vertex", json={"instances": [{"inputs": "x"}, chat, full]})
    assert answer.json() == {"predictions": ["Hi", "Hi", "Say: Hi"]}
    assert len(engine.requests) == 3


@pytest.mark.parametrize(
    ("instance", "place"),
    [
        ({"inputs": ""}, "inputs"),
        ({"inputs": "x", "parameters": {"details": True}}, "parameters.details"),
        ({"inputs": "x", "stream": True}, "stream"),
        ({"inputs": "x", "parameters": {"grammar": {"type": "regex", "value": "refused"}}}, "parameters.grammar"),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, "n"),
        ({"messages": [{"role": "user", "content": "x"}], "stream": True}, "stream"),
        ({}, "inputs"),
    ],
)
async def test_a_wrong_instance_is_named(tmp_path: Path, instance: dict[str, Any], place: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        response = await client.post("/vertex", json={"instances": [{"inputs": "x"}, instance]})
        many = await client.post("/vertex", json={"instances": [{"inputs": "x"}] * 17})
    assert (response.status_code, response.json()["error_type"]) == (422, "validation")
    assert f"instances.1.{place}" in response.json()["error"] or "`inputs` cannot be empty" in response.json()["error"]
    assert many.status_code == 422


# KServe


def tensor(*data: Any, shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": "text_input", "shape": shape or [len(data)], "datatype": "BYTES", "data": list(data)}


async def test_kserves_tensors_are_texts(tmp_path: Path) -> None:
    """Strings, or the bytes of one text as TGI has it; what comes back is written as what was sent."""
    inputs = [tensor("x", "y"), tensor(*"é".encode(), shape=[1, 2])]
    wanted = {
        "id": "7",
        "inputs": inputs,
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
        "parameters": {"max_new_tokens": 5},
    }
    async with served(tmp_path, saying("Hü")) as (client, engine):
        response = await client.post("/v2/models/tiny/infer", json=wanted)
        versioned = await client.post("/v2/models/tiny/versions/1/infer", json={"inputs": [tensor("x")]})
    reply = InferReply.model_validate_json(response.content)
    assert (reply.model_name, reply.id) == ("tiny", "7")
    assert [(each.name, each.shape, each.data) for each in reply.outputs] == [
        ("a", [2], ["Hü", "Hü"]),
        ("b", [1, 3], list("Hü".encode())),
    ]
    assert [bytes_of(request.prompt) for request, _ in engine.requests[:3]] == [b"x", b"y", "é".encode()]
    assert engine.requests[0][0].sampling.max_tokens == 5
    assert versioned.json()["outputs"] == [{"name": "text_output", "shape": [1], "datatype": "BYTES", "data": ["Hü"]}]


async def test_kserves_health_and_metadata(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        told = {path: (await client.get(f"/v2{path}")).json() for path in ("", "/health/live", "/health/ready")}
        model = (await client.get("/v2/models/small")).json()
        ready = (await client.get("/v2/models/small/versions/1/ready")).json()
        missing = await client.get("/v2/models/other")
        client._transport.app.state.house.gate.draining = True  # type: ignore[attr-defined]
        draining = await client.get("/v2/health/ready")
    assert told[""]["name"] == "formwork"
    assert (told["/health/live"], told["/health/ready"]) == ({"live": True}, {"ready": True})
    assert (model["name"], model["inputs"][0]["datatype"]) == ("small", "BYTES")
    assert ready == {"name": "small", "ready": True}
    assert (missing.status_code, draining.status_code) == (404, 503)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"inputs": [tensor("x", shape=[2])]}, "inputs.0.data"),
        ({"inputs": [tensor(255, shape=[1])]}, "inputs.0.data"),
        ({"inputs": [tensor("x")], "outputs": [{"name": "a"}, {"name": "b"}]}, "outputs"),
        ({"inputs": [tensor("x")], "parameters": {"details": True}}, "parameters.details"),
        ({"inputs": [tensor("x")], "parameters": {"top_q": 1}}, "parameters.top_q"),
        ({"inputs": [{**tensor(1), "datatype": "INT32"}]}, "inputs.0.datatype"),
        ({"inputs": [tensor(*["x"] * 17)]}, "inputs"),
        ({"inputs": [{**tensor("x"), "parameters": {"binary_data_size": 5}}]}, "inputs.0.parameters.binary_data_size"),
    ],
)
async def test_a_wrong_tensor_is_named(tmp_path: Path, body: dict[str, Any], place: str) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        response = await client.post("/v2/models/tiny/infer", json=body)
    assert (response.status_code, response.json()["error_type"]) == (422, "validation")
    assert place in response.json()["error"]
    assert not engine.requests
