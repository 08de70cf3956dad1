"""What is wrong with a body, in a sentence: pydantic's report as the client's own field and a reason in JSON's words.

What it is for: `parse` in service/body.py, the one caller. What may not enter: what a route does with its fields.

pydantic validates Python values through unions of models, and says so: its places hold the names of a union's members
and tags, its reasons speak of tuples and None, and a union has one complaint for each of its members. A client sees one
complaint, about the member that it meant, at a place that its own body has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from service.errors import InvalidBody

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]
_KINDS: Final = {
    "string_type": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
}
"""Complaints that a value is of another kind than the field or this member of its union; the kind that was wanted."""
_BELOW: Final = frozenset({"greater_than", "greater_than_equal", "too_short"})
_ABOVE: Final = frozenset({"less_than", "less_than_equal", "too_long"})
_IN_JSON: Final = {"None": "null", "True": "true", "False": "false"}
_SHOWN = 80  # characters of a value


def invalid_body(error: ValidationError, body: Mapping[str, Any], accepted: Sequence[str]) -> InvalidBody:
    """The complaint that matters; `accepted` names the fields of the body's own level."""
    problems = [(place(each, body), each) for each in error.errors(include_url=False)]
    # The deepest is about the member of a union that was meant; of those, one of the right kind with a wrong value.
    path, first = max(problems, key=lambda each: (len(each[0]), each[1]["type"] not in _KINDS))
    # A name that is not known says more than the fields that are missing beside it.
    path, first = next((each for each in problems if _is_unknown(each) and len(each[0]) == len(path)), (path, first))
    wanted = [_KINDS[each["type"]] for at, each in problems if at == path and each["type"] in _KINDS]
    found = InvalidBody(_sentence(first, wanted, path, accepted), param=".".join(map(str, path)) or None)
    if first["type"] in _BELOW | _ABOVE:
        found.out_of_range = "below" if first["type"] in _BELOW else "above"
    return found


def _is_unknown(problem: tuple[Path, ErrorDetails]) -> bool:
    return problem[1]["type"] == "extra_forbidden"


def place(problem: ErrorDetails, body: Any) -> Path:
    """Where the problem is, in the body's own names."""
    location, kind = problem["loc"], problem["type"]
    if kind == "missing":
        return (*_within(location[:-1], body, problem["input"]), location[-1])
    path = _within(location, body, problem["input"])
    if kind in {"union_tag_invalid", "union_tag_not_found"} and (tag := _tag(problem)) is not None:
        return (*path, tag)
    return path


def _within(location: Path, body: Any, wanted: Any) -> Path:
    found = _followed(location, body, wanted)
    return location if found is None else found


def _followed(location: Path, value: Any, wanted: Any) -> Path | None:
    """The parts of `location` that lead through `value` to the very object `wanted`: the others are pydantic's own."""
    if not location:
        return () if value is wanted else None
    part, rest = location[0], location[1:]
    if isinstance(part, str):
        is_there = isinstance(value, dict) and part in value
    else:
        is_there = isinstance(value, list) and part < len(value)
    if is_there and (found := _followed(rest, value[part], wanted)) is not None:
        return (part, *found)
    return _followed(rest, value, wanted)


def _tag(problem: ErrorDetails) -> str | None:
    """The field that tells a union's members apart; None where no single one does."""
    name = str(problem.get("ctx", {}).get("discriminator", ""))
    return name.strip("'") if name.startswith("'") else None


def _sentence(problem: ErrorDetails, wanted: Sequence[str], path: Path, accepted: Sequence[str]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(path, accepted)
    if kind == "union_tag_not_found" and _tag(problem) is not None:
        return "Field required"
    given = problem["input"]
    if kind == "union_tag_invalid":
        reason, given = f"Input should be one of {context['expected_tags']}", context["tag"]
    elif kind in _KINDS:
        reason = f"Input should be {' or '.join(dict.fromkeys(wanted))}"
    elif kind == "literal_error":
        reason = f"Input should be {_IN_JSON.get(context['expected'], context['expected'])}"
    elif kind == "none_required" or context.get("max_length") == 0:
        reason = "this is not supported here; leave it out"
    else:
        reason = problem["msg"].removeprefix("Value error, ").replace("Tuple", "List").replace(" after validation", "")
    return reason + (f"; got {_shown(given)}" if isinstance(given, str | int | float | bool | None) else "")


def _unknown(path: Path, accepted: Sequence[str]) -> str:
    if len(path) > 1:
        return f"{path[-1]!r} is not a known field; see /docs for what is accepted there"
    meant = get_close_matches(str(path[-1]), accepted, 1, 0.75)
    hint = f"; did you mean {meant[0]!r}?" if meant else f"; accepted: {', '.join(accepted)}"
    return f"{path[-1]!r} is not a known field{hint}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
