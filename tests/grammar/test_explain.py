"""explain(): every keyword within reach with its place and how it is enforced, and what the constraint costs."""

from typing import Any

import pytest

from tests.grammar.walking import compiled

SCHEMA: dict[str, Any] = {
    "title": "t",
    "type": "object",
    "minLength": 3,
    "properties": {
        "a": {"type": "string", "format": "made-up", "x-mine": 1},
        "b": {"$ref": "#/$defs/b", "then": {"minimum": 3}},
    },
    "$defs": {"b": {"type": "integer", "minimum": 1, "minContains": 2}, "unused": {"pattern": "a"}},
}


@pytest.mark.parametrize(
    ("pointer", "keyword", "how"),
    [
        ("", "type", "exactly"),
        ("", "title", "annotation"),
        ("", "minLength", "does nothing: no string is allowed here"),
        ("/properties/a", "format", "unknown format 'made-up': an annotation"),
        ("/properties/a", "x-mine", "unknown keyword: an annotation"),
        ("/properties/b", "then", "does nothing without if"),
        ("/$defs/b", "minimum", "exactly"),
        ("/$defs/b", "minContains", "does nothing without contains"),
    ],
)
def test_each_keyword_is_told_with_its_place(pointer: str, keyword: str, how: str) -> None:
    """Before any of it is entered by a generation."""
    found = compiled(SCHEMA).explain()["keywords"]
    told = {(e["pointer"].removeprefix("#"), e["keyword"]): e["enforced"] for e in found}
    assert told[pointer, keyword] == how


def test_what_is_not_reached_is_not_told() -> None:
    """A definition that nothing refers to judges nothing."""
    assert not any("unused" in e["pointer"] for e in compiled(SCHEMA).explain()["keywords"])


def test_the_cost_is_told() -> None:
    """Least budget, states and bytes are those of the grammar."""
    grammar = compiled(SCHEMA)
    told = grammar.explain()
    assert told["least_budget"] == grammar.least_budget == grammar.matcher().tokens_to_finish
    assert told["states"] > 0
    assert told["bytes"] == grammar.nbytes
