"""The tools of a request: which may be called, whether one must be, and the grammar of a message that calls them.

What it is for: every spelling of tools (functions, custom tools, OpenAI's older functions; a choice by name, by subset)
becomes one `Toolbox`; `message_constraint` joins it with reasoning and answer. What may not enter: reading calls
(service.calling), how a family spells them (grammar/rules/families.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grammar.errors import GrammarError
from grammar.rules.families import Reasoning
from grammar.rules.offers import CUSTOM_INPUT, NO_PARAMETERS
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
from service.constraints import Constraint, ConstraintKind
from service.errors import InvalidBody
from service.families import CallForm


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One tool, whatever its kind."""

    name: str
    source: dict[str, Any]  # as the grammar reads it
    shown: dict[str, Any]  # as chat templates know tools
    custom: bool
    param: str  # where in the request what it is called with stands


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request that may be called, and how."""

    tools: tuple[OfferedTool, ...]
    form: CallForm
    must: bool
    parallel: bool

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(tool.name for tool in self.tools)

    def parameters_of(self, name: str | None) -> Any:
        """The schema of a function's arguments; None for a custom tool."""
        found = next((tool.source.get("function") for tool in self.tools if tool.name == name), None)
        return found["parameters"] if found else None

    @property
    def custom(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.tools if tool.custom)


def toolbox_of(body: ChatRequest, form: CallForm) -> Toolbox | None:
    """The tools that this request may call; None if it may call none."""
    _check_legacy(body)
    offered = _offered(body)
    choice = body.tool_choice if body.functions is None else _legacy_choice(body)
    if choice is not None and choice != "none" and not offered:
        raise InvalidBody("tool_choice needs tools", param="tool_choice")
    if not offered or choice == "none":
        return None
    names = [tool.name for tool in offered]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidBody(f"two tools are named {twice!r}", param="tools")
    tools, must, one = _chosen(offered, choice)
    if not must and not form.begins_by_itself:
        raise InvalidBody(
            "this model's chat template has no form for tool calls that begin by themselves; use tool_choice: required",
            param="tool_choice",
        )
    parallel = not one and body.parallel_tool_calls is not False and body.functions is None
    return Toolbox(tools, form, must, parallel)


def message_constraint(
    form: CallForm,
    box: Toolbox | None,
    reasoning: Reasoning | None,
    answer: Constraint | None,
    options: FormworkRequest | None,
) -> Constraint:
    """A whole message as one constraint: reasoning, then an answer (or any text), calls, or both."""
    told = {
        "choice": "none" if box is None else "required" if box.must else "auto",
        "parallel": box is not None and box.parallel,
        "format": form.name,
        "reasoning": reasoning and [reasoning.opening, reasoning.closing, reasoning.gap],
        "answer": constraints.as_format(answer) if answer is not None and not (box and box.must) else None,
        **constraints.spelling_of(options),
    }
    tools = [tool.source for tool in box.tools] if box is not None else []
    param = answer.param if answer is not None else "tools" if box is not None else "messages"
    return Constraint(ConstraintKind.TOOLS, constraints.as_text(tools), constraints.as_text(told), param)


def named(error: GrammarError, box: Toolbox | None, answer: Constraint | None) -> GrammarError:
    """The error with the place in the request of the tool or the answer that caused it."""
    found = re.match(r"/(\d+)/(?:function|custom)/(?:parameters|format)(.*)", error.pointer)
    if found is not None and box is not None:
        pointer, param = found[2], box.tools[int(found[1])].param
    elif answer is not None:
        pointer = re.sub(r"^/answer(/json_schema|/pattern|/grammar)?", "", error.pointer)
        param = answer.param or "response_format"
    else:
        pointer, param = error.pointer, "tools"
    told = type(error)(error.message, pointer=pointer, keyword=error.keyword, reason=error.reason)
    told.__dict__["param"] = param
    return told


def _offered(body: ChatRequest) -> tuple[OfferedTool, ...]:
    if body.functions is not None:
        wrapped = [FunctionTool(type="function", function=each) for each in body.functions]
        return tuple(_function(tool, f"functions.{index}.parameters") for index, tool in enumerate(wrapped))
    return callables(body.tools or ())


def callables(tools: Sequence[Tool]) -> tuple[OfferedTool, ...]:
    """The tools of a request, in its order."""
    return tuple(
        _custom(tool, f"tools.{index}.custom.format")
        if isinstance(tool, CustomTool)
        else _function(tool, f"tools.{index}.function.parameters")
        for index, tool in enumerate(tools)
    )


def _function(tool: FunctionTool, param: str) -> OfferedTool:
    function = tool.function
    # No parameters at all: OpenAI's meaning is an empty object.
    parameters = dict(NO_PARAMETERS) if function.parameters is None else function.parameters
    arguments = {"name": function.name, "parameters": _of_objects(parameters, param)}
    source = {"type": "function", "function": arguments}
    return OfferedTool(function.name, source, _shown(function.name, parameters, function.description), False, param)


_NO_OBJECTS = frozenset({"array", "boolean", "integer", "null", "number", "string"})


def _of_objects(parameters: JsonSchema, param: str) -> JsonSchema:
    """The schema of a call's arguments, which every client reads as an object, whatever else the schema would allow."""
    if isinstance(parameters, bool):
        return {"type": "object"} if parameters else parameters
    kind = parameters.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" in kinds:
        return {**parameters, "type": "object"}
    if kinds and all(isinstance(each, str) and each in _NO_OBJECTS for each in kinds):
        raise InvalidBody(f"a tool's arguments are an object; this schema is of type {kind!r}", param=param)
    return parameters


def _custom(tool: CustomTool, param: str) -> OfferedTool:
    """A custom tool's text is shown as the one argument of a function, with the grammar that it is under."""
    custom, text = tool.custom, {"type": "string"}
    source: dict[str, Any] = {"name": custom.name}
    if isinstance(custom.format, GrammarInput):
        syntax, definition = _definition(custom.format, param)
        source["format"] = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
        text |= {"pattern": definition} if syntax == "regex" else {"description": f"Lark grammar:\n{definition}"}
    parameters = {
        "type": "object",
        "properties": {CUSTOM_INPUT: text},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }
    shown = _shown(custom.name, parameters, custom.description)
    return OfferedTool(custom.name, {"type": "custom", "custom": source}, shown, True, param)


def _shown(name: str, parameters: Any, description: str | None) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if description is not None:
        function["description"] = description
    return {"type": "function", "function": function}


def _definition(format_: GrammarInput, param: str) -> tuple[str, str]:
    nested = format_.grammar
    syntax, definition = (
        (nested.syntax, nested.definition) if nested is not None else (format_.syntax, format_.definition)
    )
    if syntax is None or definition is None:
        raise InvalidBody('a grammar has {"syntax": "lark" or "regex", "definition": …}', param=param)
    return syntax, definition


Choice = str | NamedToolChoice | NamedCustomChoice | AllowedToolsChoice | None


def _chosen(tools: tuple[OfferedTool, ...], choice: Choice) -> tuple[tuple[OfferedTool, ...], bool, bool]:
    """The tools that may be called, whether one must be, and whether it is one only."""
    if choice is None or choice == "auto":
        return tools, False, False
    if choice == "required":
        return tools, True, False
    if isinstance(choice, AllowedToolsChoice):
        picked = {_name(each): _tool(tools, _name(each)) for each in choice.allowed_tools.tools}
        return tuple(picked.values()), choice.allowed_tools.mode == "required", False
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
