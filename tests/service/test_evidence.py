"""Quotations of the input: what may be quoted, and where a quoted value stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service import constraints
from service.evidence import Texts, quoted_at, quoting
from tests.service.houses import BYTES, EOS, served

pytestmark = pytest.mark.anyio
QUOTE: dict[str, Any] = {"type": "string", "x-source": "input"}
TEXTS = Texts(((0, "Ann and Bob"), (2, "Bob, Ann, Bob")))


@pytest.mark.parametrize(
    ("schema", "path", "marked"),
    [
        (QUOTE, "", True),
        ({"properties": {"a/b": QUOTE}}, "/a~1b", True),
        ({"properties": {"a": QUOTE}}, "/b", False),
        ({"additionalProperties": QUOTE}, "/b", True),
        ({"patternProperties": {"^x": QUOTE, "(?<b>": {}}}, "/xy", True),
        ({"items": QUOTE}, "/7", True),
        ({"prefixItems": [{}, QUOTE]}, "/1", True),
        (
            {"properties": {"a": {"$ref": "#/$defs/q"}}, "$defs": {"q": {"anyOf": [{"type": "null"}, QUOTE]}}},
            "/a",
            True,
        ),
        ({"properties": {"a": {"$ref": "#q"}}, "$defs": {"q": {**QUOTE, "$anchor": "q"}}}, "/a", True),
        ({"properties": {"a": {"$ref": "#"}}, "anyOf": [{"type": "object"}, QUOTE]}, "/a/a/a", True),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "/a", False),
        (True, "", False),
    ],
)
def test_a_value_is_looked_up_where_the_schema_marks_it(schema: Any, path: str, marked: bool) -> None:
    found = quoted_at(schema, path, "Bob", TEXTS)
    assert found == ({"message": 0, "start": 8, "end": 11, "count": 3} if marked else None)


def test_what_is_no_string_or_not_there_has_no_place() -> None:
    assert quoted_at(QUOTE, "", 5, TEXTS) is None
    assert quoted_at(QUOTE, "", "", TEXTS) is None
    assert quoted_at(QUOTE, "", "Carl", TEXTS) is None


def test_only_a_constraint_that_quotes_is_given_the_texts() -> None:
    plain = constraints.json_schema({"type": "string"}, None, "response_format")
    assert quoting(plain, TEXTS) is plain
    marked = quoting(constraints.json_schema(QUOTE, None, "response_format"), TEXTS)
    assert marked is not None
    assert json.loads(marked.options)["source"] == "Ann and Bob\0Bob, Ann, Bob"


async def test_an_answer_tells_where_it_quotes_from(tmp_path: Path) -> None:
    """The users' messages only; offsets are characters."""
    schema = {"type": "object", "properties": {"who": QUOTE, "kind": {"type": "string"}}}
    body = {
        "messages": [
            {"role": "system", "content": "Bob"},
            {"role": "user", "content": [{"type": "text", "text": "é Bob"}]},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}},
    }
    said = [BYTES.tokens('{"who": "Bob", "kind": "Bob"}'), [EOS]]
    async with served(tmp_path, said) as (client, engine):
        answer = (await client.post("/v1/chat/completions", json=body)).json()
    fields = {each["path"]: each for each in answer["formwork"]["choices"][0]["fields"]}
    assert fields["/who"]["source"] == {"message": 1, "start": 2, "end": 5, "count": 1}
    assert "source" not in fields["/kind"]
    assert engine.requests[0][1] is not None
