"""Row 27, in every dialect: what a client is told over two deaths of the engine is what it is told without."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import save_file

from tests.faults.oracle import MESSAGES, Target
from tests.service.processes import MODEL, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LONG = "[a-z ]{160,200}"
LETTER = {
    "type": "object",
    "properties": {"to": {"type": "string", "maxLength": 60}, "text": {"type": "string", "minLength": 150}},
    "required": ["to", "text"],
    "additionalProperties": False,
}
WRITE = {"type": "function", "function": {"name": "write", "parameters": LETTER}}
LETTERS: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "letter", "schema": LETTER}}
DRAWN: dict[str, Any] = {"temperature": 1.0, "seed": 11}
CHAT: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 240, **DRAWN}
FREE: dict[str, Any] = {**CHAT, "ignore_eos": True}
COMPLETION: dict[str, Any] = {"prompt": "Maria Silva", "max_tokens": 200, "ignore_eos": True, **DRAWN}
GIVEN = {"name": "write", "input_schema": LETTER}
PARAMETERS = {
    "max_new_tokens": 200, "do_sample": True, "seed": 11, "details": True, "top_n_tokens": 3,
    "grammar": {"type": "regex", "value": LONG},
}  # fmt: skip
STREAM = {"stream": True}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {**FREE, **USAGE, "logprobs": True, "top_logprobs": 3}),
    "chat, three choices": ("/v1/chat/completions", {**CHAT, "n": 3, "response_format": LETTERS, **USAGE}),
    "chat, whole": ("/v1/chat/completions", {**FREE, "n": 2, "logprobs": True, "top_logprobs": 2}),
    "chat, whole, prompt": ("/v1/chat/completions", {**FREE, "prompt_logprobs": 2}),
    "chat, tools": (
        "/v1/chat/completions",
        {**CHAT, **STREAM, "tools": [WRITE], "tool_choice": "required", "logprobs": True, "n": 2},
    ),
    "chat, fields": (
        "/v1/chat/completions",
        {**CHAT, **STREAM, "response_format": LETTERS, "formwork": {"events": "fields"}, "logprobs": True},
    ),
    "chat, jump": (
        "/v1/chat/completions",
        {**CHAT, **STREAM, "response_format": LETTERS, "formwork": {"jump": True}, "logprobs": True},
    ),
    "chat, stop": ("/v1/chat/completions", {**FREE, **STREAM, "stop": ["zq#", "qx!"], "min_tokens": 100}),
    "chat, adapter": ("/v1/chat/completions", {**FREE, **STREAM, "model": "lora", "logprobs": True}),
    "chat, penalties": (
        "/v1/chat/completions",
        {**FREE, **STREAM, "repetition_penalty": 1.2, "frequency_penalty": 0.5, "logprobs": True},
    ),
    "completions": ("/v1/completions", {**COMPLETION, **USAGE, "n": 3, "logprobs": 2}),
    "completions, whole": (
        "/v1/completions",
        {**COMPLETION, "prompt": ["One", "Two"], "best_of": 2, "logprobs": 1, "echo": True},
    ),
    "responses": (
        "/v1/responses",
        {"input": "Write.", "max_output_tokens": 200, "seed": 11, "temperature": 1.0, **STREAM,
         "text": {"format": {"type": "json_schema", "name": "letter", "schema": LETTER}},
         "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    ),
    "responses, tools": (
        "/v1/responses",
        {"input": "Write.", "max_output_tokens": 200, "seed": 11, "temperature": 1.0, **STREAM,
         "tool_choice": "required", "tools": [{"type": "function", "name": "write", "parameters": LETTER}]},
    ),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 120, **DRAWN, **STREAM}),
    "messages, tools": (
        "/v1/messages",
        {"messages": MESSAGES, "max_tokens": 240, **DRAWN, **STREAM, "tools": [GIVEN],
         "tool_choice": {"type": "any"}},
    ),
    "generate": ("/generate", {"inputs": "Maria", "parameters": {**PARAMETERS, "decoder_input_details": True}}),
    "generate_stream": ("/generate_stream", {"inputs": "Maria", "parameters": PARAMETERS}),
    "sglang": (
        "/generate",
        {"text": "Maria", "stream": True, "return_logprob": True, "top_logprobs_num": 2,
         "sampling_params": {"max_new_tokens": 200, "regex": LONG, "sampling_seed": 11, "temperature": 1.0}},
    ),
    "ollama, chat": (
        "/api/chat",
        {"messages": MESSAGES, "format": LETTER, "options": {"num_predict": 200, "seed": 11, "temperature": 1.0}},
    ),
    "ollama, generate": (
        "/api/generate",
        {"prompt": "Maria", "format": LETTER, "options": {"num_predict": 200, "seed": 11, "temperature": 1.0}},
    ),
    "gemini": (
        "/v1beta/models/default:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Write."}]}],
         "generationConfig": {"maxOutputTokens": 200, "seed": 11, "temperature": 1.0, "candidateCount": 2,
                              "responseLogprobs": True, "logprobs": 2,
                              "responseMimeType": "application/json", "responseJsonSchema": LETTER}},
    ),
    "llama.cpp": (
        "/completion",
        {"prompt": "Maria", "n_predict": 200, "json_schema": LETTER, "seed": 11, "temperature": 1.0, **STREAM,
         "n_probs": 2},
    ),
    "kserve": (
        "/v2/models/default/infer",
        {"inputs": [{"name": "text_input", "shape": [2], "datatype": "BYTES", "data": ["One", "Two"]}],
         "parameters": {"max_new_tokens": 200, "do_sample": True, "seed": 11}},
    ),
}  # fmt: skip

# What is another for each request, or tells of time and of passes.
OTHERS = {
    "id", "created", "created_at", "completed_at", "timings", "passes", "guesses", "seed", "sequence_number", "item_id",
    "call_id", "responseId", "createTime", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration",
    "prefill_s", "decode_s", "e2e_latency", "obfuscation",
    # What was cached goes by who came before.
    "grammar_cached", "cached_tokens", "cachedContentTokenCount", "input_tokens", "cache_read_input_tokens",
}  # fmt: skip
COUNTS = {"totalTokenCount", "candidatesTokenCount", "tokens_predicted"}  # so far
TEXTS = {"content", "text", "delta", "arguments", "partial_json", "response"}

Told = dict[tuple[str, ...], list[Any]]


def leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value with where it stands; of a list's items only that they are items, and whose choice they are of."""
    if isinstance(value, dict):
        if isinstance(number := value.get("index"), int):
            path = (*path, f"#{number}")
        for name, each in value.items():
            if name not in OTHERS:
                yield from leaves(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, (*path, "*"))
    else:
        yield path, value


def told(text: str) -> Told:
    """What a reply says, by place: how it was cut into events is chance, so text is joined and repeats are one."""
    found: Told = {}
    for event in events(text):
        for path, value in parts(event):
            values = found.setdefault(path[-1:] if path[-1] in COUNTS else path, [])
            if path[-1] in COUNTS:
                values[:] = [value]
            elif path[-1] in TEXTS and isinstance(value, str):
                values[:] = ["".join([*values, value])]
            elif not values or value != values[-1] or isinstance(value, float):
                values.append(value)
    return found


def parts(event: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of an event, with its type, and with the number of the choice if it tells of one alone.

    What it says of the whole answer stands beside the choice that happened to end last.
    """
    if not isinstance(event, dict):
        yield from leaves(event, ())
        return
    kind = (str(event.get("type", "")),)
    choices = event.get("choices") or event.get("candidates") or []
    one = (*kind, f"#{choices[0]['index']}") if len(choices) == 1 else kind
    for name, value in event.items():
        of_all = name == "usageMetadata" or (name == "formwork" and "choices" in value)
        yield from leaves({name: value}, kind if of_all else one)


def events(text: str) -> list[Any]:
    """Of a reply, of lines or of a stream; SGLang's each hold all that came before."""
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if not line.startswith(("event:", ":"))]
    found = [json.loads(line) for line in lines if line not in {"", "[DONE]"}]
    found = [event for event in found if event != {"type": "ping"}]
    return found[-1:] if "meta_info" in found[-1] else found


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("dialects")
    flags = {
        "max-sequences": 64, "max-concurrent-requests": 64, "adapters": f"lora={adapter(folder)}",
        "response-store-bytes": 1_000_000,
    }  # fmt: skip
    with running(*(str(part) for name, value in flags.items() for part in (f"--{name}", value))) as server:
        yield Target(server, "unused", "unused", "unused")


def adapter(folder: Path) -> Path:
    """A random one for the bundled model."""
    config = json.loads((MODEL / "config.json").read_text("utf-8"))
    width, drawn = config["hidden_size"], torch.Generator().manual_seed(1)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(4, width, generator=drawn) * 0.2
            tensors[f"{name}.lora_B.weight"] = torch.randn(width, 4, generator=drawn) * 0.2
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def ask(target: Target, name: str) -> str:
    path, body = ASKED[name]
    reply = httpx.post(target.server.url + path, json=body, timeout=300)
    assert reply.status_code == 200, (name, reply.text)
    return reply.text


def until(target: Target, name: str, least: float) -> None:
    """Waits for the metric to be so high."""
    end = time.monotonic() + 200
    while target.metrics()[name] < least:
        assert time.monotonic() < end, name
        time.sleep(0.02)


def test_27_every_dialect_tells_the_same_over_two_deaths(target: Target) -> None:
    with ThreadPoolExecutor(len(ASKED)) as pool:
        quiet = {name: told(ask(target, name)) for name in ASKED}
        before = target.metrics()
        replies = {name: pool.submit(ask, target, name) for name in ASKED}
        generated = before["formwork_generated_tokens_total"]
        restarts = before["formwork_engine_restarts_total"]
        for death in (1, 2):
            until(target, "formwork_generated_tokens_total", generated + 500)
            os.kill(target.engine_pid(), signal.SIGKILL)
            until(target, "formwork_engine_restarts_total", restarts + death)
            generated = 0.0  # the next process counts anew
        shaken = {name: told(reply.result()) for name, reply in replies.items()}
    after = target.metrics()
    for name in ASKED:
        assert shaken[name] == quiet[name], name
    assert after["formwork_resumptions_total"] - before["formwork_resumptions_total"] > len(ASKED)
    assert after["formwork_requests_lost_total"] == 0
