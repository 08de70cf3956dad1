"""Calls and reasoning in the forms of the model families: what the model may write, what the client is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Finish, FinishReason, Guessed
from service.families import THOUGHT_FORMS, call_form, thought_form
from service.json_text import MemberText
from tests.engine.scripted import ScriptedEngine, Step
from tests.service.houses import BYTES, EOS, TEMPLATE, Says, bytes_of, info, served
from tests.service.test_chat_route import content, events
from tests.service.test_tools import ARGUMENTS, CALL, NOW, TIME, WEATHER

pytestmark = pytest.mark.anyio
URL = "/v1/chat/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "tools": [WEATHER, TIME]}
FREE: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
OBJECT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}
BOTH: dict[str, Any] = {**ASK, "response_format": OBJECT}


@pytest.mark.parametrize(
    ("template", "calls", "thought"),
    [
        ("{{ '<tool_call>' }}", "hermes", None),
        ("<tool_call> <think></think>", "hermes", "think"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral", None),
        ("[TOOL_CALLS]name[ARGS] [THINK][/THINK]", "mistral_args", "mistral"),
        ("<｜tool▁calls▁begin｜> ```json", "deepseek_v3", None),
        ("<｜tool▁calls▁begin｜> </think>", "deepseek_v31", "think"),
        ("<|channel|>final", "openai", "openai"),
        ("<|python_tag|>", "llama3_json", None),
        ("<tool_call><function=name>", "json", None),
        ("plain", "json", None),
    ],
)
def test_a_template_shows_its_family(template: str, calls: str, thought: str | None) -> None:
    assert call_form("auto", template).name == calls
    found = thought_form("auto", template)
    assert (found.name if found else None) == thought


def test_a_flag_overrules_the_template() -> None:
    assert call_form("mistral", "<tool_call>").name == "mistral"
    assert thought_form("none", "<think></think>") is None
    assert thought_form("think", "plain") is THOUGHT_FORMS["think"]


LLAMA = f'{{"name": "weather", "parameters": {ARGUMENTS}}}'
MISTRAL = f'[TOOL_CALLS][{{"name": "weather", "arguments": {ARGUMENTS}}}, {{"name": "time", "arguments": {{}}}}]'
ARGS = f"[TOOL_CALLS]weather[ARGS]{ARGUMENTS}[TOOL_CALLS]time[ARGS]{{}}"
V3 = (
    f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{ARGUMENTS}\n```<｜tool▁call▁end｜>"
    "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
V31 = (
    f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜>"
    "<｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
OSS = f"<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{ARGUMENTS}<|call|>"
MARKS = {
    "mistral": ["[TOOL_CALLS]"],
    "mistral_args": ["[TOOL_CALLS]", "[ARGS]"],
    "deepseek_v3": [
        *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>"),
        *("<｜tool▁call▁end｜>", "<｜tool▁sep｜>"),
    ],
    "openai": ["<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|start|>"],
}
MARKS["deepseek_v31"] = MARKS["deepseek_v3"]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(
    ("family", "said", "text", "names"),
    [
        ("hermes", f"Hm. {CALL}\n{NOW}", "Hm. ", ["weather", "time"]),
        ("hermes", "A <tool is no call", "A <tool is no call", []),
        ("llama3_json", LLAMA, None, ["weather"]),
        ("llama3_json", f'See {{"nothing": 1}}:\n{LLAMA}', 'See {"nothing": 1}:\n', ["weather"]),
        ("mistral", f"Hm.{MISTRAL}", "Hm.", ["weather", "time"]),
        ("mistral_args", ARGS, None, ["weather", "time"]),
        ("deepseek_v3", f"Hm.{V3}", "Hm.", ["weather", "time"]),
        ("deepseek_v31", V31, None, ["weather", "time"]),
        ("openai", OSS, None, ["weather"]),
        ("openai", "<|channel|>final<|message|>Hello.", "Hello.", []),
    ],
)
async def test_calls_are_read_as_the_family_writes_them(
    tmp_path: Path, family: Any, said: str, text: str | None, names: list[str], size: int, special: bool
) -> None:
    """Whether its marks are special tokens of the vocabulary or text."""
    engine = Says(said, special=MARKS.get(family, []) if special else [], size=size)
    async with served(tmp_path, engine, tool_call_parser=family) as (client, _):
        choice = (await client.post(URL, json=ASK)).json()["choices"][0]
    calls = choice["message"].get("tool_calls", [])
    assert choice["message"]["content"] == text
    assert [call["function"]["name"] for call in calls] == names
    assert [call["function"]["arguments"] for call in calls] == [ARGUMENTS, "{}"][: len(names)]
    assert choice["finish_reason"] == ("tool_calls" if names else "stop")


async def test_gpt_oss_reasons_then_answers_or_calls(tmp_path: Path) -> None:
    """Its turns are channels, and its marks special tokens."""
    thought = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    messages = (f"{thought}<|channel|>final<|message|>Hello.", thought + OSS, "<|channel|>final<|message|>Hi.")
    engine = Says(*messages, special=[*MARKS["openai"], "<|end|>"])
    async with served(tmp_path, engine, TEMPLATE + "{# <|channel|> #}", tool_call_parser="openai") as (client, _):
        said, called, plain = [(await client.post(URL, json=body)).json()["choices"][0] for body in (ASK, ASK, FREE)]
    assert (said["message"]["reasoning_content"], said["message"]["content"]) == ("hm", "Hello.")
    assert called["message"]["tool_calls"][0]["function"]["name"] == "weather"
    assert called["message"]["content"] is None
    assert (plain["message"]["content"], plain["finish_reason"]) == ("Hi.", "stop")


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_an_answer_and_calls_are_one_grammar(tmp_path: Path, stream: bool) -> None:
    """One request of the engine, under one plan, whatever the model does."""
    messages = ['<think>Hm.\n</think>\n\n{"a": 1}', f"<think>\n</think>\n\n{CALL}", '{"a": 2}']
    engine = Says(*messages)
    async with served(tmp_path, engine, tool_call_parser="hermes", reasoning_parser="think") as (client, _):
        told = [(await client.post(URL, json={**BOTH, "stream": stream})) for _ in messages]
    assert [plan is not None for _, plan in engine.requests] == [True] * 3
    if stream:
        deltas = [[chunk["choices"][0]["delta"] for chunk in events(each.text)[:-1]] for each in told]
        reasons = ["".join(delta.get("reasoning_content") or "" for delta in each) for each in deltas]
        texts = ["".join(delta.get("content") or "" for delta in each) for each in deltas]
        called = [any("tool_calls" in delta for delta in each) for each in deltas]
    else:
        answers = [each.json()["choices"][0]["message"] for each in told]
        reasons = [answer.get("reasoning_content", "") for answer in answers]
        texts = [answer["content"] or "" for answer in answers]
        called = ["tool_calls" in answer for answer in answers]
    assert reasons == ["Hm.\n", "\n", ""]
    assert texts == ['{"a": 1}', "", '{"a": 2}']
    assert called == [False, True, False]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"response_format": {"type": "regex", "value": "[0-9]+ km"}}, "12 km"),
        ({"guided_choice": ["yes", "no"]}, "no"),
        ({"guided_grammar": 'start: "a" start "b" |'}, "aabb"),
        ({"response_format": {"type": "substring", "value": "a cat sat"}}, "cat"),
        (
            {"structural_tag": {"type": "structural_tag", "format": {"type": "const_string", "value": "ok"}}},
            "ok",
        ),
    ],
)
async def test_any_constraint_may_stand_beside_tools(tmp_path: Path, answer: dict[str, Any], said: str) -> None:
    async with served(tmp_path, Says(said, CALL, said + "!"), tool_call_parser="hermes") as (client, _):
        spoken = (await client.post(URL, json={**ASK, **answer})).json()["choices"][0]
        called = (await client.post(URL, json={**ASK, **answer})).json()["choices"][0]
        wrong = await client.post(URL, json={**ASK, **answer})
    assert (spoken["message"]["content"], spoken["finish_reason"]) == (said, "stop")
    assert called["finish_reason"] == "tool_calls"
    assert wrong.status_code == 500  # the scripted model said what is not legal


async def test_a_family_whose_calls_look_like_json_answers_too(tmp_path: Path) -> None:
    """What begins like a call and is none is the answer."""
    schema = {**SCHEMA, "properties": {"name": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    engine = Says('{"name": "wea"}', LLAMA, size=1)
    async with served(tmp_path, engine, tool_call_parser="llama3_json") as (client, _):
        spoken, called = [
            (await client.post(URL, json={**ASK, "response_format": format_})).json()["choices"][0] for _ in range(2)
        ]
    assert spoken["message"]["content"] == '{"name": "wea"}'
    assert called["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_a_required_call_needs_no_answer(tmp_path: Path) -> None:
    async with served(tmp_path, Says(CALL), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**BOTH, "tool_choice": "required"})
    assert response.json()["choices"][0]["finish_reason"] == "tool_calls"


async def test_reasoning_is_told_apart_and_counted(tmp_path: Path) -> None:
    thought = "<think>Let me see.\n</think>\n\n"
    async with served(tmp_path, Says(f'{thought}{{"a": 1}}'), reasoning_parser="think") as (client, engine):
        answer = (await client.post(URL, json={**FREE, "response_format": OBJECT})).json()
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "Let me see.\n"
    assert message["content"] == '{"a": 1}'
    assert engine.requests[0][1] is not None
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == len(thought)
    assert "reasoning_content" not in json.dumps(answer["formwork"])
    assert [field["path"] for field in answer["formwork"]["choices"][0]["fields"]] == ["/a"]
    assert len(answer["choices"][0]["logprobs"]["content"]) == len('{"a": 1}') + 1


async def test_reasoning_before_free_text_needs_no_grammar(tmp_path: Path) -> None:
    async with served(tmp_path, Says("<think>Hm.</think>Yes.", size=1), reasoning_parser="think") as (client, engine):
        response = await client.post(URL, json={**FREE, "stream": True})
    *chunks, _ = events(response.text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert content(chunks) == "Yes."
    assert engine.requests[0][1] is None


async def test_free_text_may_end_in_its_reasoning(tmp_path: Path) -> None:
    steps: list[Step] = [BYTES.tokens("<think>a b c"), Finish(reason=FinishReason.LENGTH)]
    async with served(tmp_path, steps, reasoning_parser="think") as (client, _):
        response = await client.post(URL, json={**FREE, "max_tokens": 12})
    choice = response.json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
    assert choice["message"]["reasoning_content"] == "a b c"


GUESSED = [Guessed("ngram", 5, 3)]


class Limited(ScriptedEngine):
    """Reasons until the end mark or the limit, then answers."""

    def __init__(self, thought: str, answer: str) -> None:
        super().__init__(lambda request, _plan: self.play(request.sampling.max_tokens), info())
        self.thought, self.answer = thought, answer

    def play(self, limit: int) -> list[Step]:
        if len(self.requests) > 1:
            return [BYTES.tokens(self.answer), [EOS], Finish(reason=FinishReason.EOS, passes=2, guessed=GUESSED)]
        said = BYTES.tokens(self.thought)[:limit]
        if len(said) < len(self.thought):
            return [said, Finish(reason=FinishReason.LENGTH, passes=1, guessed=GUESSED)]
        return [said, Finish(reason=FinishReason.STOP, stop=b"</think>", passes=1, guessed=GUESSED)]

    def prompts(self) -> list[bytes]:
        return [bytes_of(request.prompt) for request, _ in self.requests]


@pytest.mark.parametrize(("limit", "told"), [(40, "Hm, so.\n"), (4, "Hm, ")])
async def test_reasoning_may_have_a_limit_of_its_own(tmp_path: Path, limit: int, told: str) -> None:
    engine = Limited("Hm, so.\n</think>", '{"a": 1}')
    async with served(tmp_path, engine, reasoning_parser="think") as (client, _):
        body = {**FREE, "response_format": OBJECT, "thinking_token_budget": limit, "max_tokens": 100}
        answer = (await client.post(URL, json=body)).json()
        small = await client.post(URL, json={**body, "max_tokens": 12})
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (told, '{"a": 1}')
    assert [plan is not None for _, plan in engine.requests] == [False, True]
    assert engine.requests[0][0].sampling.max_tokens == limit
    assert engine.prompts()[1].endswith(f"<think>{told}</think>\n\n".encode())
    facts = answer["formwork"]["choices"][0]
    assert facts["closed_by_budget"] is (limit == 4)
    assert (facts["passes"], facts["guesses"]) == (3, {"ngram": {"proposed": 10, "accepted": 6}})  # of both requests
    marks = len("<think></think>\n\n")
    assert small.json()["error"]["formwork"]["least_budget"] == marks + 5  # the scripted compiler's least budget


@pytest.mark.parametrize("change", [{"reasoning_effort": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}])
async def test_reasoning_can_be_declined(tmp_path: Path, change: dict[str, Any]) -> None:
    async with served(tmp_path, Says('{"a": 1}'), reasoning_parser="think") as (client, engine):
        response = await client.post(URL, json={**FREE, "response_format": OBJECT, **change})
    assert response.json()["choices"][0]["message"]["content"] == '{"a": 1}'
    plan = engine.requests[0][1]
    assert plan is not None
    assert not plan.data  # the schema by itself


@pytest.mark.parametrize(
    ("tail", "said"), [("{# </think> #}<think>\n", "Hm.</think>Yes."), ("<think>\n\n</think>\n\n", "Yes.")]
)
async def test_a_template_may_have_opened_or_closed_the_reasoning(tmp_path: Path, tail: str, said: str) -> None:
    async with served(tmp_path, Says(said), TEMPLATE + tail) as (client, _):
        message = (await client.post(URL, json=FREE)).json()["choices"][0]["message"]
    assert message.get("reasoning_content") == ("Hm." if "Hm" in said else None)
    assert message["content"] == "Yes."


NUMBER = {"type": "custom", "custom": {"name": "dial", "format": {"type": "grammar", "grammar": {"syntax": "regex"}}}}


def dial(definition: str = r"\+[0-9]{3,9}", syntax: str = "regex") -> dict[str, Any]:
    tool = json.loads(json.dumps(NUMBER))
    tool["custom"]["format"]["grammar"] |= {"definition": definition, "syntax": syntax}
    return dict(tool)


def dialled(text: str) -> str:
    """The message that calls it."""
    arguments = json.dumps({"input": text}, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "dial", "arguments": {arguments}}}\n</tool_call>'


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("tool", "text"),
    [
        (dial("[\\s\\S]*"), '"+4é😀\\9'),
        (dial(), "+491"),
        (dial('start: LINE ("\\n" LINE)*\nLINE: /[a-z" ]+/', "lark"), 'say "hi"\nand go'),
        ({"type": "custom", "custom": {"name": "dial"}}, "any\ntext"),
    ],
)
async def test_a_custom_tool_is_told_its_text(tmp_path: Path, stream: bool, tool: dict[str, Any], text: str) -> None:
    body = {**FREE, "tools": [tool, WEATHER], "tool_choice": {"type": "custom", "custom": {"name": "dial"}}}
    async with served(tmp_path, Says(dialled(text)), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**body, "stream": stream})
    if stream:
        *chunks, _ = events(response.text)
        parts = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
        assert [part["type"] for part in parts if "type" in part] == ["custom"]
        assert "".join(part["custom"]["input"] for part in parts) == text
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    else:
        (told,) = response.json()["choices"][0]["message"]["tool_calls"]
        assert told["custom"] == {"name": "dial", "input": text}


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        (dial("(a"), "tool 'dial'"),
        (dial("start: )", "lark"), "tool 'dial'"),
        (dial("start: %json {}", "lark"), "JSON value"),
    ],
)
async def test_a_custom_tools_wrong_grammar_is_named(tmp_path: Path, tool: dict[str, Any], says: str) -> None:
    async with served(tmp_path, Says(), tool_call_parser="hermes") as (client, _):
        response = await client.post(URL, json={**FREE, "tools": [tool], "tool_choice": "required"})
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "tools.0.custom.format"


@given(st.text(max_size=12), st.lists(st.integers(1, 5), max_size=40), st.booleans())
def test_a_custom_tools_text_is_read_whatever_its_pieces(value: str, cuts: list[int], ascii_only: bool) -> None:
    text = json.dumps({"input": value}, ensure_ascii=ascii_only)
    reader, told, at = MemberText("input"), "", 0
    for size in [*cuts, len(text)]:
        told += reader.feed(text[at : at + size])
        at += size
    assert told == value


async def test_older_functions_are_answered_in_their_own_form(tmp_path: Path) -> None:
    body = {**FREE, "functions": [WEATHER["function"]], "function_call": {"name": "weather"}}
    async with served(tmp_path, Says(CALL, CALL), tool_call_parser="hermes") as (client, _):
        whole = (await client.post(URL, json=body)).json()["choices"][0]
        *chunks, _ = events((await client.post(URL, json={**body, "stream": True})).text)
    assert whole["finish_reason"] == "function_call"
    assert whole["message"]["function_call"] == {"name": "weather", "arguments": ARGUMENTS}
    deltas = [chunk["choices"][0]["delta"].get("function_call") for chunk in chunks]
    assert "".join(delta["arguments"] for delta in deltas if delta) == ARGUMENTS
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    "change",
    [{"function_call": "auto"}, {"functions": [WEATHER["function"]], "tools": [WEATHER]}],
)
async def test_older_and_newer_forms_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    async with served(tmp_path, Says()) as (client, _):
        response = await client.post(URL, json={**FREE, **change})
    assert response.status_code == 400
