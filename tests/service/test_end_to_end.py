"""The official clients against a real server process on the bundled model.

Everything constrained is validated by `jsonschema`; what the model says is its own affair.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest
import torch
from huggingface_hub import InferenceClient
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.tokenizer import Tokenizer
from schemas.chat import ChatChunk, ChatCompletion
from schemas.tgi import GenerateReply
from service.serving import curl_line
from tests.service.processes import Running, running

pytestmark = pytest.mark.timeout(600)

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "status": {"enum": ["active", "inactive"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3},
    },
    "required": ["name", "age", "status", "tags"],
    "additionalProperties": False,
}
TEXT = "Extract the person: Maria Silva is 34 years old, active, and lives in Porto."
MESSAGES: list[Any] = [{"role": "user", "content": TEXT}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}


@pytest.fixture(scope="session")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", timeout=120, max_retries=0)


def valid(text: str | None, schema: Any = PERSON) -> Any:
    assert text is not None
    value = json.loads(text)
    Draft202012Validator(schema).validate(value)
    return value


def test_the_readmes_line_gives_valid_json(server: Running) -> None:
    body = json.loads(curl_line("x", 0).split("-d '")[1].rstrip("'"))
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)
    answer = ChatCompletion.model_validate_json(response.content)
    valid(answer.choices[0].message.content, body["response_format"]["json_schema"]["schema"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_schema_holds(client: openai.OpenAI, temperature: float) -> None:
    answer = client.chat.completions.create(
        model="formwork-mini", messages=MESSAGES, response_format=FORMAT, temperature=temperature, max_tokens=96, n=2
    )
    assert len(answer.choices) == 2
    for choice in answer.choices:
        valid(choice.message.content)
        assert choice.finish_reason == "stop"
        assert choice.logprobs is not None
        entries = choice.logprobs.content or []
        assert b"".join(bytes(e.bytes or ()) for e in entries).decode() == choice.message.content


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_the_budget_closes_the_value(client: openai.OpenAI, budget: int) -> None:
    compiled = httpx.post(f"{client.base_url}grammars", json={"response_format": FORMAT}, timeout=60).json()
    answer = client.chat.completions.create(
        model="default",
        messages=MESSAGES,
        response_format=FORMAT,
        temperature=1.5,
        max_tokens=compiled["least_budget"] + 4 * (budget - 1),
    )
    valid(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= compiled["least_budget"] + 4 * (budget - 1) + 1


def test_a_stream_is_valid_when_joined(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="tgi",
        messages=MESSAGES,
        response_format=FORMAT,
        max_tokens=96,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    for chunk in chunks:
        ChatChunk.model_validate(chunk.model_dump(exclude_unset=True))
    valid("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices))
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_a_stream_and_a_whole_answer_of_one_seed_are_equal(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "seed": 11, "max_tokens": 24}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True)
    joined = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert joined == whole.choices[0].message.content


def test_parse_gives_a_pydantic_value(client: openai.OpenAI) -> None:
    class City(BaseModel):
        name: str
        people: int
        capital: bool

    answer = client.chat.completions.parse(
        model="formwork-mini", messages=MESSAGES, response_format=City, temperature=0, max_tokens=64
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_json_object_and_regex_and_choices(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=40
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
    chosen = client.chat.completions.create(
        model="default", messages=MESSAGES, max_tokens=10, extra_body={"guided_choice": ["yes", "no"]}
    )
    assert chosen.choices[0].message.content in {"yes", "no"}
    matched = client.completions.create(
        model="default", prompt="A date: ", max_tokens=20, extra_body={"guided_regex": r"\d{4}-\d{2}-\d{2}"}
    )
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", matched.choices[0].text)


def test_free_text_ends_at_its_budget(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=5, temperature=0
    )
    assert answer.choices[0].finish_reason in {"length", "stop"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 5


def test_top_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, logprobs=True, top_logprobs=3, max_tokens=4, temperature=0
    )
    assert answer.choices[0].logprobs is not None
    for entry in answer.choices[0].logprobs.content or []:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob


@pytest.mark.parametrize(
    ("changes", "status", "code", "says"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}},
         400, "invalid_constraint", "type"),
        ({"response_format": FORMAT, "max_tokens": 2}, 422, "budget_too_small", "least budget"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "context_length_exceeded", "4096"),
        ({"temperature": -1}, 400, "invalid_value", "temperature"),
        ({"extra_body": {"guided_regex": "(a"}}, 400, "invalid_constraint", "guided_regex"),
    ],
)  # fmt: skip
def test_bad_input_is_told_and_others_are_served(
    client: openai.OpenAI, changes: dict[str, Any], status: int, code: str, says: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "default", "messages": MESSAGES, **changes})
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert says in str(caught.value)
    client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=2)


def test_many_at_once_are_all_valid(client: openai.OpenAI) -> None:
    def one(seed: int) -> str | None:
        answer = client.chat.completions.create(
            model="default", messages=MESSAGES, response_format=FORMAT, seed=seed, max_tokens=64
        )
        return answer.choices[0].message.content

    with ThreadPoolExecutor(12) as pool:
        for text in pool.map(one, range(12)):
            valid(text)


def test_tgi_clients_generate_under_a_grammar(server: Running) -> None:
    client = InferenceClient(server.url, timeout=120)
    schema: Any = {"type": "json", "value": PERSON}
    out = client.text_generation(TEXT, max_new_tokens=96, grammar=schema, details=True)
    valid(out.generated_text)
    assert out.details is not None
    assert out.details.finish_reason == "eos_token"
    assert len(out.details.tokens) == out.details.generated_tokens
    pattern: Any = {"type": "regex", "value": "[a-z]{3,8}"}
    streamed = client.text_generation(TEXT, max_new_tokens=20, grammar=pattern, stream=True)
    assert re.fullmatch("[a-z]{3,8}", "".join(streamed))


def test_tgi_clients_chat(server: Running) -> None:
    client = InferenceClient(f"{server.url}/v1", timeout=120)
    answer = client.chat_completion(MESSAGES, max_tokens=96, response_format=FORMAT)
    valid(answer.choices[0].message.content)
    chunks = list(client.chat_completion(MESSAGES, max_tokens=8, stream=True))
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


def test_logprobs_are_those_of_transformers(client: openai.OpenAI) -> None:
    """To 1e-4, over HTTP: the model's own with alternatives, those under a constraint, the legal mass, and the bytes.

    The oracle knows neither our template nor our grammars: transformers renders the prompt and runs the model, and what
    `[0-9]{2,4} a+` allows next is found by trying every token.
    """
    folder, pattern = "models/formwork-mini", "[0-9]{2,4} a+"
    answer = client.chat.completions.create(
        model="default",
        messages=MESSAGES,
        response_format=cast("Any", {"type": "regex", "value": pattern}),
        logprobs=True,
        top_logprobs=5,
        max_tokens=9,
        temperature=1.2,
        seed=11,
    )
    entries = (answer.choices[0].logprobs or pytest.fail("no log-probs")).content or []
    told = answer.model_dump()["formwork"]["choices"][0]["tokens"]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    ids = [each["token_id"] for each in told]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    reference = torch.log_softmax(logits.double(), dim=-1)
    spelled = Tokenizer.load(folder).vocabulary_bytes
    written = b""
    for place, (token, entry, each) in enumerate(zip(ids, entries, told, strict=True)):
        row = reference[place]
        texts = [(written + piece).decode(errors="replace") if piece else None for piece in spelled]
        legal = [i for i, text in enumerate(texts) if text and re.fullmatch("[0-9]{0,4}|[0-9]{2,4} a*", text)]
        legal += tokenizer.convert_tokens_to_ids(["<|end|>"]) if re.fullmatch(pattern, written.decode()) else []
        mass = row[legal].logsumexp(0)
        assert token in legal
        assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert each["constrained_logprob"] == pytest.approx(float(row[token] - mass), abs=1e-4)
        assert each["legal_mass"] == pytest.approx(float(mass.exp()), abs=1e-4)
        best = row.topk(5)
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [bytes(top.bytes or []) for top in entry.top_logprobs] == [spelled[i] for i in best.indices.tolist()]
        assert bytes(entry.bytes or []) == spelled[token]
        written += spelled[token]
    assert written.decode() == answer.choices[0].message.content


def test_tgis_details_and_prompt_logprobs(server: Running) -> None:
    body = {
        "inputs": "one two three",
        "parameters": {"max_new_tokens": 3, "details": True, "decoder_input_details": True, "top_n_tokens": 2},
    }
    response = httpx.post(f"{server.url}/generate", json=body, timeout=120)
    reply = GenerateReply.model_validate_json(response.content)
    assert reply.details is not None
    assert reply.details.prefill[0].logprob is None
    assert all((token.logprob or 0) < 0 for token in reply.details.prefill[1:])
    assert reply.details.top_tokens is not None
    assert len(reply.details.top_tokens[0]) == 2


def test_the_watermark_is_found_and_its_absence_too(client: openai.OpenAI, server: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string", "minLength": 500, "maxLength": 900}},
        "required": ["text"],
    }
    format_: Any = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    found, texts = {}, {}
    for wanted in (True, False):
        answer = client.chat.completions.create(
            model="default",
            messages=MESSAGES,
            response_format=format_,
            temperature=1.3,
            seed=3,
            max_tokens=700,
            extra_body={"formwork": {"watermark": None if wanted else False}},
        )
        valid(answer.choices[0].message.content, schema)
        told = answer.model_dump()["formwork"]
        assert told["watermark"]["applied"] is wanted
        tokens = [each["token_id"] for each in told["choices"][0]["tokens"]]
        detected = httpx.post(
            f"{server.url}/v1/watermark/detect", json={"token_ids": tokens, "response_format": format_}, timeout=60
        )
        assert detected.status_code == 200, detected.text
        found[wanted] = detected.json()
        texts[wanted] = answer.choices[0].message.content or ""
    assert found[True]["key_id"] == "test"
    assert found[True]["reading"] == "constraint"
    assert found[True]["p_value"] < 1e-4
    assert found[False]["p_value"] > 1e-4
    spaced = json.dumps(json.loads(texts[True]), indent=4)
    named = {"name": "long-text", "response_format": format_}
    assert httpx.post(f"{server.url}/v1/grammars", json=named, timeout=60).status_code == 200
    for body, reading in [
        ({"text": texts[True]}, "json"),
        ({"text": f"Here it is:\n{spaced}\nThat is all."}, "json"),
        ({"text": spaced, "formwork": {"grammar": "long-text"}}, "constraint"),
        ({"text": spaced, "response_format": format_, "picture": "html", "scan": True}, "constraint"),
    ]:
        told = httpx.post(f"{server.url}/v1/watermark/detect", json=body, timeout=60).json()
        assert told["reading"] == reading
        assert told["p_value"] < 1e-4, body
    assert told["picture"].startswith('<div class="wm">')
    assert told["passages"][0]["p_value"] < 1e-4
    body = {"text": texts[False], "background": [texts[True]], "picture": "ansi"}
    unmarked = httpx.post(f"{server.url}/v1/watermark/detect", json=body, timeout=60).json()
    assert unmarked["p_value"] > 1e-4
    assert not unmarked["watermarked"]


def test_a_quotation_is_read_with_what_it_was_quoted_from(client: openai.OpenAI, server: Running) -> None:
    """Without it, and where nothing quotes, the request is refused by name."""
    quoted: dict[str, Any] = {"type": "string", "x-source": "input", "minLength": 3}
    schema = {"type": "object", "properties": {"name": quoted}, "required": ["name"], "additionalProperties": False}
    format_: Any = {"type": "json_schema", "json_schema": {"name": "q", "schema": schema}}
    answer = client.chat.completions.create(model="default", messages=MESSAGES, response_format=format_)
    text = answer.choices[0].message.content

    def detected(**body: Any) -> httpx.Response:
        return httpx.post(f"{server.url}/v1/watermark/detect", json={"text": text, **body}, timeout=60)

    read = detected(response_format=format_, source=[TEXT])
    assert (read.status_code, read.json()["reading"]) == (200, "constraint"), read.text
    other = detected(response_format=format_, source=["something else"])
    assert (other.status_code, other.json()["error"]["param"]) == (400, "text")
    missing = detected(response_format=format_)
    assert missing.json()["error"]["formwork"]["keyword"] == "x-source"
    idle = detected(response_format=FORMAT, source=[TEXT])
    assert (idle.status_code, idle.json()["error"]["param"]) == (400, "source")
    assert detected(source=[TEXT]).json()["error"]["param"] == "source"


def test_no_key_is_told_by_processes_logs_metrics_or_errors(server: Running) -> None:
    """Command lines are read by every user of the machine, the engine's and the workers' too."""
    wrong = httpx.post(f"{server.url}/v1/watermark/detect", json={"text": "a text", "key_id": "none"}, timeout=60)
    assert wrong.status_code == 400
    assert "known: 'test'" in wrong.json()["error"]["message"]
    idle = {"text": "a text", "formwork": {"watermark": True}}
    refused = httpx.post(f"{server.url}/v1/watermark/detect", json=idle, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "formwork.watermark"
    told = [wrong.text, httpx.get(f"{server.url}/metrics", timeout=60).text, server.log.read_text("utf-8", "replace")]
    pids, lines = [server.process.pid], list[str]()
    while pids:
        pid = pids.pop()
        lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace"))
        pids += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert len(lines) >= 3
    assert not any("5f" * 4 in text.lower() for text in [*told, *lines])


def test_a_text_outside_its_constraint_is_told(server: Running) -> None:
    body = {"text": '{"name": 5}', "response_format": FORMAT}
    response = httpx.post(f"{server.url}/v1/watermark/detect", json=body, timeout=60)
    assert response.status_code == 400
    assert "does not satisfy" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"text": "a " * 140_000}, "text"),
        ({"token_ids": [300] * 40_000, "picture": "html"}, "picture"),
        ({"text": "short", "background": ["a " * 49_000] * 3}, "background"),
    ],
)
def test_more_than_a_detector_can_read_in_a_moment_is_refused(
    server: Running, body: dict[str, Any], named: str
) -> None:
    """A quarter of a million tokens of text, as many of background, a picture of some pages."""
    refused = httpx.post(f"{server.url}/v1/watermark/detect", json=body, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, named)


def test_a_named_constraint_is_used_by_name(client: openai.OpenAI, server: Running) -> None:
    made = httpx.post(f"{server.url}/v1/grammars", json={"name": "person", "response_format": FORMAT}, timeout=60)
    assert made.status_code == 200, made.text
    assert made.json()["least_budget"] > 3
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, max_tokens=96, extra_body={"formwork": {"grammar": "person"}}
    )
    valid(answer.choices[0].message.content)
    assert answer.model_dump()["formwork"]["grammar_cached"] is True


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"structured_outputs": {"grammar": 'root ::= "(" root ")" | [0-9]'}}, r"(\()*[0-9](\))*"),
        ({"response_format": {"type": "grammar", "grammar": 'start: "a" %json {"type": "boolean"}'}}, "a(true|false)"),
        (
            {
                "response_format": {
                    "type": "structural_tag",
                    "format": {
                        "type": "tag",
                        "begin": "<n>",
                        "content": {"type": "regex", "pattern": "[0-9]{2}"},
                        "end": "</n>",
                    },
                }
            },
            "<n>[0-9]{2}</n>",
        ),
        ({"response_format": {"type": "substring", "value": {"substring_words": "the cat"}}}, "(the)?( )?(cat)?"),
    ],
)
def test_grammars_tags_and_quotations_constrain(client: openai.OpenAI, fields: dict[str, Any], expected: str) -> None:
    answer = client.chat.completions.create(model="default", messages=MESSAGES, max_tokens=48, extra_body=fields)
    assert re.fullmatch(expected, answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_a_malformed_grammar_is_told_with_its_field_and_place(server: Running) -> None:
    body = {"model": "default", "messages": MESSAGES, "structured_outputs": {"grammar": 'root ::= "a" ('}}
    response = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_constraint", "structured_outputs.grammar")
    assert "line 1, column 15" in error["message"]


def test_health_and_metrics(server: Running) -> None:
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    httpx.post(f"{server.url}/generate", json={"inputs": "x", "parameters": {"max_new_tokens": 5}}, timeout=60)
    deadline = time.monotonic() + 20  # the engine tells its numbers a few times a second
    while float(_metric(server, "formwork_inter_token_seconds_count")) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    for name in ("formwork_inter_token_seconds_sum", "formwork_decode_bandwidth_share_sum", "formwork_steps_total"):
        assert float(_metric(server, name)) > 0, name
    assert float(_metric(server, 'formwork_step_host_seconds_sum{method="decode"}')) > 0


def _metric(server: Running, name: str) -> str:
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    return next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"{name} "))


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
NOW: Any = {"type": "function", "function": {"name": "now"}}


ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NOW]}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}, ALLOWED])
def test_a_forced_call_is_valid(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, tools=[WEATHER, NOW], tool_choice=choice, max_tokens=120, temperature=1.2
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    for call in answer.choices[0].message.tool_calls or []:
        assert call.type == "function"
        assert call.function.name in {"get_weather", "now"}
        parameters = WEATHER["function"]["parameters"] if call.function.name == "get_weather" else {"maxProperties": 0}
        valid(call.function.arguments, parameters)


def test_a_streamed_call_joins_to_valid_arguments(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="default", messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=60, temperature=0
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls
    assert isinstance(message.tool_calls[0].function.name, str)
    valid(message.tool_calls[0].function.arguments, WEATHER["function"]["parameters"])


def test_auto_ends_in_text_or_valid_calls(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, tools=[WEATHER, NOW], max_tokens=80, temperature=0
    )
    choice = answer.choices[0]
    assert (choice.finish_reason == "tool_calls") == bool(choice.message.tool_calls)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_and_a_schema_in_one_request(client: openai.OpenAI, stream: bool) -> None:
    for seed in range(6):
        asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "tools": [WEATHER], "seed": seed}
        asked |= {"response_format": FORMAT, "max_tokens": 160, "temperature": 1.5}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                choice = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**asked).choices[0]
        if choice.finish_reason == "tool_calls":
            for call in choice.message.tool_calls or []:
                valid(call.function.arguments, WEATHER["function"]["parameters"])
        else:
            assert choice.finish_reason == "stop"
            valid(choice.message.content)


def test_responses_hold_a_schema(client: openai.OpenAI) -> None:
    format_: Any = {"type": "json_schema", "name": "person", "strict": True, "schema": PERSON}
    answer = client.responses.create(model="default", input=TEXT, text={"format": format_}, max_output_tokens=96)
    assert answer.status == "completed"
    valid(answer.output_text)


def test_responses_stream_and_parse(client: openai.OpenAI) -> None:
    class City(BaseModel):
        name: str
        people: int

    parsed = client.responses.parse(model="default", input=TEXT, text_format=City, max_output_tokens=64)
    assert isinstance(parsed.output_parsed, City)
    with client.responses.stream(model="default", input=TEXT, text_format=City, max_output_tokens=64) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, City)
    assert City.model_validate_json(deltas) == final.output_parsed


def test_responses_call_functions(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "strict": True, **WEATHER["function"]}
    answer = client.responses.create(model="default", input=TEXT, tools=[tool], tool_choice="required", temperature=1)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls
    for call in calls:
        assert call.name == "get_weather"
        valid(call.arguments, WEATHER["function"]["parameters"])
    follow: Any = [{"role": "user", "content": TEXT}, *answer.output]
    follow += [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"} for call in calls]
    again = client.responses.create(model="default", input=follow, tools=[tool], max_output_tokens=30)
    assert again.object == "response"


def test_a_conversation_of_responses_goes_on_by_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="default", input=TEXT, max_output_tokens=8)
    asked: dict[str, Any] = {"model": "default", "previous_response_id": first.id, "max_output_tokens": 8}
    choices = {"structured_outputs": {"choice": ["yes", "no"]}}
    with client.responses.stream(input="Go on.", **asked, extra_body=choices) as stream:
        second = stream.get_final_response()
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(second.id).output_text == second.output_text
    items: list[Any] = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.content[0].text for item in items] == [TEXT, first.output_text, "Go on."]
    follow = client.responses.input_tokens.count(model="default", input="And?", previous_response_id=second.id)
    assert second.usage is not None
    assert follow.input_tokens > second.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_custom_tools_input_matches_its_regex(client: openai.OpenAI) -> None:
    grammar: Any = {"syntax": "regex", "definition": r"\+[0-9]{3,9}"}
    tool: Any = {"type": "custom", "custom": {"name": "dial", "format": {"type": "grammar", "grammar": grammar}}}
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, tools=[tool], tool_choice="required", max_tokens=80, temperature=1.2
    )
    for call in answer.choices[0].message.tool_calls or []:
        assert call.type == "custom"
        assert re.fullmatch(r"\+[0-9]{3,9}", call.custom.input)


def test_a_custom_tools_input_follows_its_lark_grammar(client: openai.OpenAI) -> None:
    """A recursive one, whose text has what JSON escapes; through both routes that have custom tools."""
    grammar = {"syntax": "lark", "definition": 'start: "(" (start | WORD)* ")"\nWORD: /"[a-z]{1,6}"\\n/'}
    tool: Any = {"type": "custom", "custom": {"name": "eval", "format": {"type": "grammar", "grammar": grammar}}}
    flat: Any = {"type": "custom", "name": "eval", "format": {"type": "grammar", **grammar}}
    asked: dict[str, Any] = {"model": "default", "tool_choice": "required", "temperature": 1.2}
    chat = client.chat.completions.create(**asked, messages=MESSAGES, tools=[tool], max_tokens=120)
    response = client.responses.create(**asked, input=TEXT, tools=[flat], max_output_tokens=120)
    inputs = [call.custom.input for call in chat.choices[0].message.tool_calls or [] if call.type == "custom"]
    inputs += [item.input for item in response.output if item.type == "custom_tool_call"]
    assert len(inputs) >= 2
    for text in inputs:
        bare = re.sub(r'"[a-z]{1,6}"\n', "", text)
        while "()" in bare:
            bare = bare.replace("()", "", 1)
        assert bare == "", text


def test_evidence_is_quoted_from_the_users_messages(client: openai.OpenAI) -> None:
    """Whatever the temperature: each quotation is in a message, at the place that is told."""
    quote = {"type": "string", "x-source": "input"}
    schema = {"type": "object", "properties": {"who": quote, "where": quote}, "required": ["who", "where"]}
    format_: Any = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    turns: Any = [*MESSAGES, {"role": "assistant", "content": "Who?"}, {"role": "user", "content": "Both, please."}]
    for seed in range(4):
        answer = client.chat.completions.create(
            model="default", messages=turns, response_format=format_, temperature=1.5, seed=seed, max_tokens=120
        )
        value = json.loads(answer.choices[0].message.content or "")
        fields = {each["path"]: each for each in answer.model_dump()["formwork"]["choices"][0]["fields"]}
        for name in ("who", "where"):
            place = fields[f"/{name}"]["source"]
            assert turns[place["message"]]["role"] == "user"
            assert turns[place["message"]]["content"][place["start"] : place["end"]] == value[name]


def test_each_value_tells_how_sure_the_model_was(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, response_format=FORMAT, temperature=0, max_tokens=96
    )
    value = valid(answer.choices[0].message.content)
    told = answer.model_dump()["formwork"]["choices"][0]
    fields = {each["path"]: each for each in told["fields"]}
    assert {path: fields[path]["value"] for path in ("/name", "/age", "/status")} == {
        "/name": value["name"], "/age": value["age"], "/status": value["status"],
    }  # fmt: skip
    assert all(each["logprob"] <= each["constrained_logprob"] <= 1e-6 for each in fields.values())
    assert all(0 <= each["legal_mass"] <= 1 + 1e-6 for each in fields.values())


def test_a_score_is_what_the_tokens_sum_to(client: openai.OpenAI, server: Running) -> None:
    body: dict[str, Any] = {"prompt": "The status is ", "choices": ["active", "inactive", "unknown"]}
    told = httpx.post(f"{server.url}/v1/choices/score", json=body, timeout=60).json()
    assert math.isclose(sum(each["share"] for each in told["choices"]), 1.0)
    spelled = {**body, "tokenizations": 16}
    summed = httpx.post(f"{server.url}/v1/choices/score", json=spelled, timeout=60).json()
    for one, several in zip(told["choices"], summed["choices"], strict=True):
        assert several["logprob"] >= one["logprob"] - 1e-3
        answer = client.completions.create(
            model="default",
            prompt=body["prompt"],
            temperature=0,
            logprobs=1,
            max_tokens=24,
            extra_body={"guided_choice": [one["choice"]]},
        )
        logprobs = answer.choices[0].logprobs
        assert answer.choices[0].text == one["choice"]
        assert logprobs is not None
        drawn = [value for value in logprobs.token_logprobs or [] if value is not None]
        if len(drawn) == one["tokens"] + 1:  # it chose the tokenizer's own spelling
            assert math.isclose(sum(drawn), one["logprob"], abs_tol=1e-2)


def engine_pid(server: Running) -> int:
    """The engine process: the server's child that runs `-m engine`."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"engine" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


@pytest.mark.slow
def test_a_stream_survives_the_death_of_its_engine(client: openai.OpenAI, server: Running) -> None:
    asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "response_format": FORMAT, "seed": 5}
    asked |= {"temperature": 1.0, "max_tokens": 96, "timeout": 300}
    quiet = client.chat.completions.create(**asked).choices[0].message.content
    text, killed = "", False
    for chunk in client.chat.completions.create(**asked, stream=True):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        if len(text) > 10 and not killed:
            os.kill(engine_pid(server), signal.SIGKILL)
            killed = True
    assert killed
    assert text == quiet
    assert "formwork_engine_restarts_total 1" in httpx.get(f"{server.url}/metrics").text


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("deepseek_v31", "think"), ("openai", "openai"), ("mistral", "none")])
def test_calls_and_answers_are_valid_in_every_familys_form(flags: tuple[str, str]) -> None:
    """The bundled model knows none of these forms, so what it writes is what the grammar makes it write."""
    with running("--tool-call-parser", flags[0], "--reasoning-parser", flags[1]) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", timeout=120, max_retries=0)
        asked: dict[str, Any] = {"model": "default", "messages": MESSAGES, "temperature": 1.3, "max_tokens": 250}
        for seed in range(3):
            choice = client.chat.completions.create(
                **asked, tools=[WEATHER, NOW], tool_choice="required", seed=seed
            ).choices[0]
            assert choice.finish_reason == "tool_calls"
            for call in choice.message.tool_calls or []:
                assert call.type == "function"
                named = call.function.name == "get_weather"
                valid(call.function.arguments, WEATHER["function"]["parameters"] if named else {"maxProperties": 0})
            answer = client.chat.completions.create(**asked, response_format=FORMAT, seed=seed).choices[0]
            assert answer.finish_reason == "stop"
            valid(answer.message.content)
            # The grammar lets a message begin with a thought; one that is limited is asked for.
            assert flags[1] != "none" or not answer.message.model_dump().get("reasoning_content")
            both = client.chat.completions.create(
                **asked, tools=[WEATHER], response_format=FORMAT, seed=seed, extra_body={"thinking_token_budget": 12}
            ).choices[0]
            if both.finish_reason == "tool_calls":
                for call in both.message.tool_calls or []:
                    assert call.type == "function"
                    valid(call.function.arguments, WEATHER["function"]["parameters"])
            else:
                valid(both.message.content)
