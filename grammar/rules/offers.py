"""The tools of a request: names with what they are called with, and which of them may or must be called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grammar.errors import GrammarError
from grammar.rules.terms import Schema, encoded

CUSTOM_INPUT: Final = "input"
"""A custom tool's text is a function's one argument of this name: chat templates know functions only."""
NO_PARAMETERS: Final = {"type": "object", "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools may be called, and whether one must be."""

    names: tuple[str, ...]
    must: bool


def offered(tools: Sequence[Any]) -> dict[str, Schema]:
    """Each tool's arguments by its name: OpenAI's forms, the bare function, or Anthropic's."""
    found: dict[str, Schema] = {}
    for number, tool in enumerate(tools):
        at = f"/{number}"
        custom = tool.get("custom") if isinstance(tool, dict) else None
        inner = custom or (tool.get("function", tool) if isinstance(tool, dict) else None)
        name = inner.get("name") if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(name, str) or not name:
            raise GrammarError("a tool is a function with a name", pointer=at, keyword="name")
        encoded(name)  # refuses what is no text
        if name in found:
            raise GrammarError(f"two tools are named {name!r}", pointer=at, keyword="name")
        if custom is not None:
            found[name] = _custom(custom, name, f"{at}/custom")
        else:
            found[name] = _function(inner, name, f"{at}/function" if inner is not tool else at)
    return found


def _function(function: Mapping[str, Any], name: str, at: str) -> Schema:
    key = "input_schema" if "input_schema" in function else "parameters"
    parameters = function.get(key)
    if parameters is None:
        parameters = NO_PARAMETERS
    if isinstance(parameters, dict) and "type" not in parameters:
        parameters = {"type": "object", **parameters}
    return Schema(parameters, f"tool {name!r}", f"{at}/{key}")


def _custom(tool: Mapping[str, Any], name: str, at: str) -> Schema:
    """A custom tool's text: free, or under `{"type": "grammar", "grammar": {"syntax", "definition"}}`."""
    wanted = tool.get("format") or {"type": "text"}
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    grammar = wanted.get("grammar", wanted) if isinstance(wanted, dict) and kind == "grammar" else {}
    syntax, definition = (
        (grammar.get("syntax"), grammar.get("definition")) if isinstance(grammar, dict) else (None, None)
    )
    if kind != "text" and (syntax not in _NARROWED or not isinstance(definition, str)):
        wish = '{"type": "text"} or {"type": "grammar", "grammar": {"syntax": "lark" or "regex", "definition": …}}'
        raise GrammarError(f"tool {name!r}: a custom tool's format is {wish}", pointer=f"{at}/format", keyword="format")
    narrowed = {} if kind == "text" else _NARROWED[syntax](str(definition))
    schema = {"type": "object", "properties": {CUSTOM_INPUT: {"type": "string", **narrowed}}}
    return Schema(
        {**schema, "required": [CUSTOM_INPUT], "additionalProperties": False}, f"tool {name!r}", f"{at}/format"
    )


_NARROWED: Final[Mapping[Any, Callable[[str], dict[str, Any]]]] = {
    "regex": lambda definition: {"pattern": f"^(?:{definition})$"},
    "lark": lambda definition: {"x-grammar": {"syntax": "lark", "definition": definition}},
}


def chosen(wanted: Any, known: tuple[str, ...]) -> ToolChoice:
    """What `tool_choice` means; a name by itself is TGI's form."""
    if wanted is None or wanted in ("auto", "none", "required"):
        if not known and wanted == "required":
            raise GrammarError("a call is required, but there are no tools", keyword="tool_choice")
        return ToolChoice(() if wanted == "none" else known, wanted == "required")
    if isinstance(wanted, str):
        return ToolChoice(_all_known([wanted], known), must=True)
    if not isinstance(wanted, dict):
        wanted = {}
    kind = wanted.get("type")
    if kind in ("function", "custom"):
        return ToolChoice(_all_known([_function_name(wanted)], known), must=True)
    if kind == "allowed_tools":
        allowed: Any = wanted.get("allowed_tools", wanted)
        mode, tools = (
            ("", None) if not isinstance(allowed, dict) else (allowed.get("mode", "auto"), allowed.get("tools"))
        )
        if mode in ("auto", "required") and isinstance(tools, list) and tools:
            return ToolChoice(_all_known([_function_name(tool) for tool in tools], known), mode == "required")
    raise GrammarError(
        "tool_choice is auto, none, required, a function or a list of allowed tools", keyword="tool_choice"
    )


def _function_name(raw: Any) -> Any:
    function = raw.get("function", raw.get("custom", raw)) if isinstance(raw, dict) else raw
    return function.get("name") if isinstance(function, dict) else function


def _all_known(names: Sequence[Any], known: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise GrammarError(f"no tool is named {name!r}; tools: {', '.join(known)}", keyword="tool_choice")
    return tuple(dict.fromkeys(names))
