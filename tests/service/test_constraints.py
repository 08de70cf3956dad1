"""Every spelling of a constraint becomes one value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.base import FormworkRequest
from schemas.chat import ChatRequest
from schemas.tgi import GenerateRequest
from service import constraints
from service.constraints import Constraint, ConstraintKind
from service.errors import InvalidBody
from service.names import Names
from service.wishes import constraint_of

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"b": {"type": "integer"}, "a": True}}


def of(**fields: Any) -> Constraint | None:
    body = ChatRequest.model_validate({"messages": [{"role": "user", "content": "x"}], **fields})
    return constraint_of(body, body.response_format, body.formwork or FormworkRequest(), Names(), "")


SAME_SCHEMA: list[dict[str, Any]] = [
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "y", "strict": True, "schema": SCHEMA}}},
    {"response_format": {"type": "json_schema", "value": {"schema": SCHEMA}}},
    {"response_format": {"type": "json_object", "schema": SCHEMA}},
    {"response_format": {"type": "json_object", "value": SCHEMA}},
    {"response_format": {"type": "json", "value": SCHEMA}},
    {"response_format": {"type": "json", "value": json.dumps(SCHEMA)}},
    {"guided_json": SCHEMA},
    {"json_schema": json.dumps(SCHEMA)},
    {"structured_outputs": {"json": SCHEMA}},
]


@pytest.mark.parametrize("fields", SAME_SCHEMA)
def test_all_spellings_of_a_schema_are_one_constraint(fields: dict[str, Any]) -> None:
    first, again = of(**SAME_SCHEMA[0]), of(**fields)
    assert first is not None
    assert again is not None
    assert again.key == first.key
    assert again.schema == SCHEMA


def test_tgis_spellings_are_the_same() -> None:
    first = of(**SAME_SCHEMA[0])
    assert first is not None
    for grammar in (
        {"type": "json", "value": SCHEMA},
        {"type": "json_object", "value": SCHEMA},
        {"type": "json_schema", "value": {"schema": SCHEMA}},
    ):
        body = GenerateRequest.model_validate({"inputs": "x", "parameters": {"grammar": grammar}})
        again = constraints.of_tgi(body.parameters.grammar, None)
        assert again is not None
        assert again.key == first.key


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"response_format": {"type": "regex", "value": "a+"}}, ConstraintKind.REGEX),
        ({"response_format": {"type": "regex", "pattern": "a+"}}, ConstraintKind.REGEX),
        ({"guided_regex": "a+"}, ConstraintKind.REGEX),
        ({"regex": "a+"}, ConstraintKind.REGEX),
        ({"structured_outputs": {"regex": "a+"}}, ConstraintKind.REGEX),
        ({"guided_choice": ["a", "b"]}, ConstraintKind.CHOICE),
        ({"structured_outputs": {"choice": ["a", "b"]}}, ConstraintKind.CHOICE),
        ({"response_format": {"type": "json_object"}}, ConstraintKind.JSON_SCHEMA),
        ({"structured_outputs": {"json_object": True}}, ConstraintKind.JSON_SCHEMA),
    ],
)
def test_other_kinds(fields: dict[str, Any], kind: ConstraintKind) -> None:
    found = of(**fields)
    assert found is not None
    assert found.kind is kind


def test_text_is_no_constraint() -> None:
    assert of() is None
    assert of(response_format={"type": "text"}) is None


def test_the_order_of_properties_is_part_of_the_constraint() -> None:
    turned = {"type": "object", "properties": {"a": True, "b": {"type": "integer"}}}
    first, second = of(guided_json=SCHEMA), of(guided_json=turned)
    assert first is not None
    assert second is not None
    assert first.key != second.key


def test_the_services_defaults_and_the_requests_wishes() -> None:
    plain, wished = of(guided_json=SCHEMA), of(guided_json=SCHEMA, formwork={"whitespace": "compact"})
    assert plain is not None
    assert wished is not None
    assert json.loads(plain.options) == {"property_order": "schema", "whitespace": "spaced", "formats": "narrow"}
    assert json.loads(wished.options)["whitespace"] == "compact"
    assert plain.key != wished.key


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": "{"},
        {"guided_json": "[1]"},
        {"guided_json": '{"const": NaN}'},
        {"guided_json": '{"type": "object", "type": "array"}'},
        {"structural_tag": ""},
        {"structural_tag": "[]"},
        {"guided_choice": []},
        {"structured_outputs": {}},
        {"structured_outputs": {"json_object": False}},
        {"guided_regex": "a", "response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a", "choice": ["a"]}},
    ],
)
def test_what_is_no_constraint_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidBody):
        of(**fields)


SAME_GRAMMAR: list[dict[str, Any]] = [
    {"response_format": {"type": "grammar", "grammar": 'root ::= "a"'}},
    {"ebnf": 'root ::= "a"'},
    {"grammar": 'root ::= "a"'},
    {"guided_grammar": 'root ::= "a"'},
    {"structured_outputs": {"grammar": 'root ::= "a"'}},
]
TAG: dict[str, Any] = {"type": "structural_tag", "format": {"type": "any_text"}}
SAME_TAG: list[dict[str, Any]] = [
    {"response_format": TAG},
    {"structural_tag": TAG},
    {"structural_tag": json.dumps(TAG)},
    {"structured_outputs": {"structural_tag": TAG}},
]


@pytest.mark.parametrize(
    ("kind", "same"), [(ConstraintKind.EBNF, SAME_GRAMMAR), (ConstraintKind.STRUCTURAL_TAGS, SAME_TAG)]
)
def test_all_spellings_of_a_grammar_or_a_tag_are_one_constraint(
    kind: ConstraintKind, same: list[dict[str, Any]]
) -> None:
    found = [of(**fields) for fields in same]
    assert {each.key for each in found if each} == {found[0].key if found[0] else ""}
    assert all(each is not None and each.kind is kind and each.schema is None for each in found)


def test_a_quotation_is_a_constraint() -> None:
    found = of(response_format={"type": "substring", "value": {"substring_words": "the cat"}})
    assert found is not None
    assert (found.kind, json.loads(found.source)) == (ConstraintKind.SUBSTRING, {"substring_words": "the cat"})


def test_an_empty_grammar_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidBody) as caught:
        of(structured_outputs={"grammar": " "})
    assert caught.value.param == "structured_outputs.grammar"
