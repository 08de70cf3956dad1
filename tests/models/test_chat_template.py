"""The bundled chat template: what the model reads for messages, tools and response_format."""

from __future__ import annotations

import json
from typing import Any

from models.training.model import load_tokenizer

TOKENIZER = load_tokenizer()
USER = {"role": "user", "content": "Hi"}


def rendered(messages: list[dict[str, Any]], **given: Any) -> str:
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given)
    assert isinstance(text, str)
    return text


def with_schema(schema: Any) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return rendered([USER], response_format=wanted).removesuffix("<|end|><|user|>Hi<|end|><|assistant|>")


def test_turns_are_marked_by_their_role() -> None:
    messages = [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Yo"}, USER]
    expected = "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Yo<|end|><|user|>Hi<|end|><|assistant|>"
    assert rendered(messages) == expected


def test_content_may_come_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert rendered([{"role": "user", "content": parts}]) == "<|user|>ab<|end|><|assistant|>"


def test_a_schema_becomes_one_line() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "who"},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "color": {"enum": ["red", "blue"]},
            "born": {"type": "string", "format": "date"},
            "home": {"type": "object", "properties": {"city": {"type": ["string", "null"]}}, "required": ["city"]},
        },
        "required": ["name", "age", "tags", "color", "born"],
    }
    assert with_schema(schema) == (
        "<|system|>json: {name: string (who), age: integer, tags: [string], "
        'color: "red"|"blue", born: string date, home?: {city: string|null}}'
    )


def test_local_references_are_followed_but_not_for_ever() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}, "required": ["next"]}
    assert with_schema({"$ref": "#/$defs/Node", "$defs": {"Node": node}}) == "<|system|>json: {next: {next: Node}}"


def test_odd_schemas_render_too() -> None:
    assert with_schema(True) == "<|system|>json: any"
    assert with_schema({"anyOf": [{"type": "string"}, {"const": 3}]}) == "<|system|>json: string|3"
    assert with_schema({}) == "<|system|>json: any"


def test_json_mode_is_told_to_the_model() -> None:
    assert rendered([USER], response_format={"type": "json_object"}).startswith("<|system|>json: any<|end|>")
    assert rendered([USER], response_format={"type": "text"}) == "<|user|>Hi<|end|><|assistant|>"


def test_tools_are_listed_with_their_arguments() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "description": "Look out", "parameters": parameters}}
    bare = {"type": "function", "function": {"name": "ping"}}
    text = rendered([USER], tools=[tool, bare])
    assert text.startswith("<|system|>tools:\nweather {city: string} Look out\nping {}<|end|><|user|>")


def test_calls_and_their_results_are_rendered() -> None:
    arguments = {"city": "Porto"}
    for given in (arguments, json.dumps(arguments)):
        call = {"type": "function", "function": {"name": "weather", "arguments": given}}
        messages: list[dict[str, Any]] = [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "21"},
        ]
        assert rendered(messages) == (
            "<|user|>Hi<|end|><|assistant|><tool_call>\n"
            '{"name": "weather", "arguments": {"city": "Porto"}}\n'
            "</tool_call><|end|><|tool|>21<|end|><|assistant|>"
        )


def test_several_calls_stand_on_lines_of_their_own() -> None:
    calls = [{"type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    text = rendered([USER, {"role": "assistant", "content": "", "tool_calls": calls}])
    assert '</tool_call>\n<tool_call>\n{"name": "b"' in text
