"""The tools of a request: which may be called, whether one must be, and the constraints that calls are under.

What it is for: every spelling of tools (functions, custom tools, OpenAI's older functions; a choice by name, by subset)
becomes one `Toolbox`. What may not enter: running calls (service.calling), how a family spells them (service.families).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.tokenizer import Tokenizer
from grammar.errors import GrammarError, UnsupportedConstraint
from schemas.base import FormworkRequest, JsonSchema
from schemas.chat import (
    AllowedToolsChoice,
    ChatRequest,
    CustomTool,
    FunctionTool,
    GrammarInput,
    Named,
    NamedCustomChoice,
    NamedToolChoice,
    Tool,
)
from service import constraints
from service.chain import mark_of
from service.chat import CUSTOM_INPUT
from service.compiling import CompiledConstraint
from service.constraints import Constraint, ConstraintKind
from service.errors import InvalidBody
from service.families import CallForm
from service.json_text import moved

_BEGINS_JSON = '{["-0123456789tfn'


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One tool, whatever its kind: a name and a schema of arguments."""

    name: str
    parameters: JsonSchema
    description: str | None
    custom: bool
    param: str  # where in the request its schema stands

    def told(self) -> dict[str, Any]:
        """As chat templates know tools."""
        function: dict[str, Any] = {"name": self.name, "parameters": self.parameters}
        if self.description is not None:
            function["description"] = self.description
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request and how they are called.

    `call` is one whole call as JSON, for families that write those; for the others `word` is the name (with the
    family's words around it) and `arguments` those of each tool.
    """

    tools: tuple[OfferedTool, ...]
    form: CallForm
    must: bool
    parallel: bool
    call: Constraint | None = None
    word: Constraint | None = None
    arguments: tuple[Constraint, ...] = ()
    more: Constraint | None = None  # after a call: another one's opening, or the end
    answer: Constraint | None = None  # what is no call: with the trigger as the other choice, or after the talk's word

    @property
    def custom(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.tools if tool.custom)


@dataclass(frozen=True, slots=True)
class CompiledToolbox:
    box: Toolbox
    call: CompiledConstraint | None
    word: CompiledConstraint | None
    arguments: tuple[CompiledConstraint, ...]
    more: CompiledConstraint | None
    answer: CompiledConstraint | None = None

    @property
    def least(self) -> int:
        """The tokens that any call may need, without what the service writes around it."""
        if self.call is not None:
            return self.call.least_budget
        return (self.word.least_budget if self.word else 0) + max(each.least_budget for each in self.arguments)


def toolbox_of(body: ChatRequest, form: CallForm, answer: Constraint | None = None) -> Toolbox | None:
    """The tools that this request may call; None if it may call none. `answer` is what any text is to satisfy."""
    _check_legacy(body)
    offered = _offered(body)
    choice = body.tool_choice if body.functions is None else _legacy_choice(body)
    if choice not in {None, "none"} and not offered:
        raise InvalidBody("tool_choice needs tools", param="tool_choice")
    if not offered or choice == "none":
        return None
    names = [tool.name for tool in offered]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidBody(f"two tools are named {twice!r}", param="tools")
    tools, must, one = _chosen(offered, choice)
    if not must and form.trigger is None and form.talk is None:
        raise InvalidBody(
            "this model's chat template has no form for tool calls that begin by themselves; use tool_choice: required",
            param="tool_choice",
        )
    parallel = form.again is not None and not one and body.parallel_tool_calls is not False and body.functions is None
    box = _box(tools, form, must=must, parallel=parallel)
    return replace(box, answer=_answer(form, answer)) if answer is not None and not must else box


def _answer(form: CallForm, answer: Constraint) -> Constraint:
    """What is a call's trigger or satisfies `answer`: their first bytes must tell them apart."""
    if form.talk is not None:  # the family says in a word of its own which of the two comes
        return answer
    assert form.trigger is not None
    if answer.kind is not ConstraintKind.JSON_SCHEMA or form.trigger[0] in _BEGINS_JSON:
        raise InvalidBody(
            f"tools and this constraint in one request cannot be told apart in the form {form.name!r}; "
            "use a JSON Schema, or tool_choice: none or required",
            param=answer.param,
        )
    trigger = json.dumps(form.trigger, ensure_ascii=False)
    source = f"start: trigger | answer\ntrigger: {trigger}\nanswer: %json {answer.source}\n"
    return replace(constraints.ebnf(source, None, answer.param or "tools", "lark"), options=_lark(answer.options))


def check_trigger(box: Toolbox, tokenizer: Tokenizer) -> None:
    """A trigger that is one special token has no bytes, so a grammar beside an answer cannot offer it."""
    form, answer = box.form, box.answer
    if answer is not None and form.trigger is not None and mark_of(tokenizer, form.trigger).token_id is not None:
        raise InvalidBody(
            f"tools and a constraint in one request are not supported in the form {form.name!r}; "
            "use tool_choice: none or required",
            param=answer.param,
        )


def _lark(options: str) -> str:
    return json.dumps({"syntax": "lark", **json.loads(options)})


def _box(tools: tuple[OfferedTool, ...], form: CallForm, *, must: bool, parallel: bool) -> Toolbox:
    more = _more(form) if parallel else None
    options = FormworkRequest()
    if form.split is None:
        call = constraints.json_schema(call_schema(tools, form.arguments_key), options, "tools")
        return Toolbox(tools, form, must, parallel, call=call, more=more)
    words = [f"{form.prefix}{tool.name}" for tool in tools]
    if form.talk is not None and not must:
        words.append(form.talk[0])
    return Toolbox(
        tools,
        form,
        must,
        parallel,
        word=constraints.choice(words, "tools") if len(words) > 1 else None,
        arguments=tuple(constraints.json_schema(tool.parameters, options, tool.param) for tool in tools),
        more=more,
    )


def _more(form: CallForm) -> Constraint:
    """After a call: what opens another one, or what ends them."""
    assert form.again is not None
    if form.end:
        return constraints.choice([form.again, form.end], "tools")
    return constraints.regex(f"({re.escape(form.again)})?", "tools")


def call_schema(tools: Sequence[OfferedTool], arguments_key: str = "arguments") -> JsonSchema:
    """The JSON of one call: an existing name, and arguments that satisfy that tool's parameters."""
    base = "" if len(tools) == 1 else "/anyOf/{}"
    forms: list[JsonSchema] = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                arguments_key: moved(tool.parameters, f"{base.format(index)}/properties/{arguments_key}"),
            },
            "required": ["name", arguments_key],
            "additionalProperties": False,
        }
        for index, tool in enumerate(tools)
    ]
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


def named(error: GrammarError, box: Toolbox) -> GrammarError:
    """The error with the place of the tool that caused it."""
    found = re.match(rf"#?(?:/anyOf/(\d+))?/properties/{box.form.arguments_key}(.*)", error.pointer)
    at = next((i for i, each in enumerate(box.arguments) if each.param == error.__dict__.get("param")), None)
    if found is None and at is None:
        return error
    tool, pointer = (box.tools[int(found[1] or 0)], found[2]) if found else (box.tools[at or 0], error.pointer)
    told = type(error)(
        f"tool {tool.name!r}: {error.message}", pointer=pointer, keyword=error.keyword, reason=error.reason
    )
    told.__dict__["param"] = tool.param
    return told


def _offered(body: ChatRequest) -> tuple[OfferedTool, ...]:
    if body.functions is not None:
        wrapped = [FunctionTool(type="function", function=each) for each in body.functions]
        return tuple(_callable(tool, f"functions.{index}.parameters") for index, tool in enumerate(wrapped))
    return callables(body.tools or ())


def callables(tools: Sequence[Tool]) -> tuple[OfferedTool, ...]:
    """The tools as names with schemas."""
    found = []
    for index, tool in enumerate(tools):
        place = "custom.format" if isinstance(tool, CustomTool) else "function.parameters"
        found.append(_callable(tool, f"tools.{index}.{place}"))
    return tuple(found)


def _callable(tool: Tool, param: str) -> OfferedTool:
    if isinstance(tool, CustomTool):
        own = tool.custom
        return OfferedTool(own.name, _input_schema(tool, param), own.description, custom=True, param=param)
    function = tool.function
    # No parameters at all: OpenAI's meaning is an empty object.
    empty: JsonSchema = {"type": "object", "additionalProperties": False}
    parameters = empty if function.parameters is None else function.parameters
    return OfferedTool(function.name, parameters, function.description, custom=False, param=param)


def _input_schema(tool: CustomTool, param: str) -> JsonSchema:
    """A custom tool's text as the one argument of a function."""
    text: dict[str, Any] = {"type": "string"}
    if isinstance(tool.custom.format, GrammarInput):
        syntax, definition = _definition(tool.custom.format, param)
        if syntax == "lark":
            raise UnsupportedConstraint(
                f"{param}: a Lark grammar inside a call is not supported; use syntax: regex", keyword="lark"
            )
        text["pattern"] = f"^(?:{definition})$"
    return {
        "type": "object",
        "properties": {CUSTOM_INPUT: text},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }


def _definition(format_: GrammarInput, param: str) -> tuple[str, str]:
    nested = format_.grammar
    syntax, definition = (
        (nested.syntax, nested.definition) if nested is not None else (format_.syntax, format_.definition)
    )
    if syntax is None or definition is None:
        raise InvalidBody('a grammar has {"syntax": "regex", "definition": …}', param=param)
    return syntax, definition


Choice = str | NamedToolChoice | NamedCustomChoice | AllowedToolsChoice | None


def _chosen(tools: tuple[OfferedTool, ...], choice: Choice) -> tuple[tuple[OfferedTool, ...], bool, bool]:
    """The tools that may be called, whether one must be, and whether it is one only."""
    if choice is None or choice == "auto":
        return tools, False, False
    if choice == "required":
        return tools, True, False
    if isinstance(choice, AllowedToolsChoice):
        picked = tuple(_tool(tools, _name(each)) for each in choice.allowed_tools.tools)
        return tuple(dict.fromkeys(picked)), choice.allowed_tools.mode == "required", False
    return (_tool(tools, choice if isinstance(choice, str) else _name(choice)),), True, True


def _name(choice: NamedToolChoice | NamedCustomChoice) -> str:
    return choice.custom.name if isinstance(choice, NamedCustomChoice) else choice.function.name


def _tool(tools: Sequence[OfferedTool], name: str) -> OfferedTool:
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(tool.name for tool in tools)
    raise InvalidBody(f"no tool is named {name[:64]!r}; tools: {known}", param="tool_choice")


def _check_legacy(body: ChatRequest) -> None:
    if body.function_call is not None and body.functions is None:
        raise InvalidBody("function_call needs functions", param="function_call")
    if body.functions is not None and (body.tools is not None or body.tool_choice is not None):
        raise InvalidBody("functions are the older form of tools; send one of them", param="functions")


def _legacy_choice(body: ChatRequest) -> Choice:
    return body.function_call.name if isinstance(body.function_call, Named) else body.function_call
