"""Rows 1 to 13: hostile and impossible constraints cost their own request, and nothing else."""

from __future__ import annotations

import json
import socket
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from grammar import Vocabulary, compile_json_schema
from schemas.base import FormworkRequest
from service.constraints import choice, ebnf, json_schema, regex
from tests.faults.conftest import NO_TOKEN
from tests.faults.oracle import FORMAT, SCHEMA, Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def of_schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def code_of(target: Target, **fields: Any) -> str | None:
    """The error's code, of a 400; None of a 200 or a budget that was too small for an honest constraint."""
    response = target.chat(**fields)
    assert response.status_code in {200, 400, 422}, (fields, response.text)
    code: str | None = response.json()["error"]["code"] if response.status_code != 200 else None
    return None if code == "budget_too_small" else code


def test_01_what_is_no_constraint_is_refused_with_its_field(target: Target) -> None:
    assert target.post("/v1/chat/completions", []).status_code == 400
    junk: list[Any] = ["", [], None, 3]
    for schema in junk:
        assert code_of(target, **of_schema(schema)) == "invalid_value", schema
    assert code_of(target, **of_schema(False)) == "unsatisfiable_constraint"
    fields: list[dict[str, Any]] = [
        {"guided_json": ""}, {"guided_json": []}, {"guided_regex": ""}, {"guided_choice": []},
        {"structured_outputs": {"json_object": False}}, {"structured_outputs": {"grammar": ""}},
        {"structured_outputs": {}}, {"guided_regex": "a", "guided_choice": ["a"]},
    ]  # fmt: skip
    for each in fields:
        response = target.chat(**each)
        assert response.status_code == 400, each
        assert response.json()["error"]["param"].partition(".")[0] in each, each


def test_02_a_malformed_grammar_between_two_good_ones(target: Target) -> None:
    good: dict[str, Any] = {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}}
    bad: list[dict[str, Any]] = [
        {"structured_outputs": {"grammar": 'root ::= "a" ('}}, {"guided_regex": "(a"}, {"ebnf": "start: undefined"},
        of_schema({"type": "strin"}), of_schema({"pattern": "["}), {"response_format": {"type": "structural_tag"}},
    ]  # fmt: skip
    for each in bad:
        assert [target.chat(**fields).status_code for fields in (good, each, good)] == [200, 400, 200], each


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa){500}", "(.*a){25}", ".{0,60000}", "x{2147483647}"])
def test_03_an_explosive_regex_is_compiled_or_refused(target: Target, pattern: str) -> None:
    assert code_of(target, guided_regex=pattern) in {None, "constraint_too_large", "unsupported_constraint"}


def test_04_a_construct_that_is_not_regular_is_named(target: Target) -> None:
    for pattern, said in ((r"(a)\1", "back-reference"), ("(?R)", "unknown kind of group"), ("(?z)a", "unknown kind")):
        response = target.chat(guided_regex=pattern)
        assert response.status_code == 400
        assert said in response.json()["error"]["message"]
    half = rb'{"messages":[{"role":"user","content":"x"}],"guided_regex":"\ud800"}'
    assert target.post("/v1/chat/completions", half).status_code == 400
    for pattern in ("(?=a)a", r"a\0", "\0"):  # these are regular
        assert code_of(target, guided_regex=pattern) is None, pattern


def test_05_nesting_is_bounded(target: Target) -> None:
    begin, end = '{"messages":[{"role":"user","content":"x"}],"max_tokens":9,"guided_json":', "}"
    for depth in (300, 10_000, 100_000):
        for opening, closing in (('{"not":', "}"), ('{"items":', "}"), ('{"allOf":[', "]}")):
            body = begin + opening * depth + "{}" + closing * depth + end
            assert target.post("/v1/chat/completions", body.encode()).status_code == 400, (opening, depth)
    chain = "\n".join(f"r{i} ::= r{i + 1}" for i in range(5000))
    grammars = ["root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000, f'root ::= r0\n{chain}\nr5000 ::= "a"']
    for grammar in grammars:
        code_of(target, structured_outputs={"grammar": grammar})  # a 200 or a 400, and soon
    assert code_of(target, guided_regex="(" * 60_000 + ")" * 60_000) == "unsupported_constraint"


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"value-{i}" for i in range(100_000)]},
        {"enum": [f"v{i}" for i in range(20_000)]},
        {"type": "array", "maxItems": 10**9},
        {"type": "array", "minItems": 10**9},
        {"multipleOf": 1e-300},
        {"anyOf": [{"properties": {f"p{i}": {"type": "integer"}}, "required": [f"p{i}"]} for i in range(3000)]},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "^" + "(a?){40}" * 40 + "$"},
    ],
    ids=["huge enum", "large enum", "maxItems", "minItems", "multipleOf", "anyOf", "minLength", "pattern"],
)
def test_06_a_large_schema_is_compiled_or_refused(target: Target, schema: Any) -> None:
    code = code_of(target, **of_schema(schema))
    assert code in {
        None, "invalid_value", "constraint_too_large", "unsatisfiable_constraint", "unsupported_constraint",
        "context_length_exceeded",
    }  # fmt: skip


def test_07_a_reference_that_leads_nowhere_is_refused(target: Target) -> None:
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    for schema in (loop, endless):
        assert code_of(target, **of_schema(schema)) in {"unsatisfiable_constraint", "invalid_constraint"}


def test_08_no_reference_is_ever_fetched(target: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(1.0)
        here = f"http://127.0.0.1:{trap.getsockname()[1]}/schema"
        for where in (here, here.replace("http:", ""), "file:///etc/passwd", "http://169.254.169.254/"):
            for schema in ({"$ref": where}, {"$id": where, "$ref": "other"}, {"$schema": where, "$ref": where}):
                assert code_of(target, **of_schema(schema)) in {"unsupported_constraint", "invalid_constraint"}
        with pytest.raises(TimeoutError):
            trap.accept()


def test_09_many_schemas_do_not_push_out_one_that_is_used(target: Target) -> None:
    """The cache is bounded in bytes, and a constraint in use stays in it."""
    hot = target.chat(response_format=FORMAT)
    assert hot.status_code == 200
    for index in range(120):
        body = {"response_format": {"type": "regex", "value": f"[a-z]{{1,9}}{index}"}}
        assert target.post("/v1/grammars", body).status_code == 200
        if index % 20 == 19:
            assert target.chat(response_format=FORMAT).json()["formwork"]["grammar_cached"]
    assert target.metrics()["formwork_plan_cache_bytes"] <= 8_000_000


def test_10_constraints_are_told_apart_by_their_content() -> None:
    """Same words in another order, another type, other options: nothing is used for something else."""
    schemas: list[Any] = [
        {"properties": {"a": {}, "b": {}}}, {"properties": {"b": {}, "a": {}}}, {"const": 1}, {"const": 1.0},
        {"const": True}, {"const": "1"}, {"enum": [1]}, True, {},
    ]  # fmt: skip
    options = [FormworkRequest(whitespace="json"), FormworkRequest(property_order="any")]
    keys = [json_schema(schema, None, "f").key for schema in schemas]
    keys += [json_schema(schemas[0], each, "f").key for each in options]
    keys += [regex("a", "f").key, choice(["a"], "f").key, ebnf("a", None, "f").key]
    assert len(set(keys)) == len(keys)
    assert all(len(key) >= 64 for key in keys)  # SHA-256


def test_11_a_dead_end_is_a_typed_error_of_its_request(target: Target) -> None:
    whole = target.chat(seed=NO_TOKEN, guided_regex="[a-z]{5,9}")
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "grammar_dead_end")
    tgi = target.generate(seed=NO_TOKEN, do_sample=True, grammar={"type": "regex", "value": "[a-z]{5,9}"})
    assert (tgi.status_code, tgi.json()["error_type"]) == (424, "generation")


def test_12_the_budget_never_cuts_a_value(target: Target) -> None:
    least = target.post("/v1/grammars", {"response_format": FORMAT}).json()["least_budget"]
    assert target.chat(response_format=FORMAT, max_tokens=least - 1).json()["error"]["code"] == "budget_too_small"
    for budget in (least, least + 1, least + 3, least + 9):
        answer = target.chat(response_format=FORMAT, max_tokens=budget, temperature=1.5, seed=budget).json()
        Draft202012Validator(SCHEMA).validate(json.loads(answer["choices"][0]["message"]["content"]))
        assert answer["choices"][0]["finish_reason"] == "stop"


def test_13_a_finished_matcher_takes_nothing_more() -> None:
    """Draft overshoot, padding ids and ids that do not exist are refused and change nothing."""
    vocabulary = Vocabulary([b"", *(bytes([byte]) for byte in range(256))], [0])
    matcher = compile_json_schema({"const": 1}, vocabulary).matcher()
    for token in (-1, -(2**31), 257, 2**31, 2**40):
        assert not matcher.advance(token)
    assert matcher.advance(1 + ord("1"))
    assert matcher.advance(0)
    row = np.full(9, -1, np.int32)
    matcher.fill_mask(row)
    assert not row.any()
    for token in (0, 1, -1, 1 + ord("1"), 10**6):
        assert not matcher.advance(token)
    assert matcher.is_finished
