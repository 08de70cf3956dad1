"""Objects told apart by the value of one key are divided by its cases; what is accepted stays what validates."""

import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import UnsatisfiableConstraint
from grammar.frames.cases import labour
from grammar.json_automaton import JsonAutomaton
from tests.grammar.test_schemas import accepts, agrees_with_jsonschema
from tests.grammar.walking import END, TOKENS, compiled, mask
from tests.oracles.validation import decode, is_valid

VALUES: list[Any] = [
    *({"const": value} for value in ("a", "b", 1, True, None)),
    {"enum": ["a", "c", 2]},
    {"type": "string"},
    {"type": ["object", "null"]},
    {"not": {"enum": ["a", "b"]}},
    {"pattern": "^a"},
    {"minimum": 2},
]
NAMES = ("k", "l", "m")
members = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), min_size=1, max_size=2)
parts = st.fixed_dictionaries(
    {"properties": members},
    optional={
        "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
        "additionalProperties": st.sampled_from([False, {"const": "b"}]),
        "patternProperties": st.just({"^[kl]$": {"enum": ["a", "b", 1, None]}}),
    },
)
told = st.sampled_from(VALUES).map(lambda value: {"properties": {"k": value}})
dispatches = st.one_of(
    st.tuples(told, parts).map(lambda both: {"if": both[0], "then": both[1]}),
    st.tuples(told, parts, parts).map(lambda both: {"if": both[0], "then": both[1], "else": both[2]}),
    st.lists(st.one_of(told, parts), min_size=2, max_size=3).map(lambda each: {"anyOf": each}),
    st.lists(st.one_of(told, parts), min_size=2, max_size=3).map(lambda each: {"oneOf": each}),
)
schemas = st.tuples(st.lists(dispatches, min_size=3, max_size=5), st.sampled_from([[], ["k"]])).map(
    lambda both: {"type": "object", "allOf": both[0], "required": both[1]}
)
objects: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["a", "b", "c", "ab", 1, 2, 3, True, None, {}]), max_size=3
)


@settings(max_examples=40, deadline=None)
@given(schemas, st.lists(objects, min_size=3, max_size=5), st.integers(0, 1 << 30).map(Random))
def test_a_division_by_cases_changes_nothing(schema: Any, values: list[Any], random: Random) -> None:
    agrees_with_jsonschema(schema, values, random)


@settings(max_examples=25, deadline=None)
@given(schemas, st.integers(0, 1 << 30).map(Random))
def test_every_text_under_way_can_be_closed_and_then_validates(schema: Any, random: Random) -> None:
    try:
        matcher = compiled(schema).matcher()
    except UnsatisfiableConstraint:
        return
    text = b""
    while not matcher.is_accepting:
        legal = sorted(mask(matcher, None if len(text) < 40 else matcher.tokens_to_finish) - {END})
        assert legal
        token = random.choice(legal)
        assert matcher.advance(token)
        text += TOKENS[token]
    assert is_valid(schema, decode(text))


def dispatch(count: int, **more: Any) -> dict[str, Any]:
    """What an object needs, and is, by its kind."""
    each = [
        {
            "if": {"properties": {"kind": {"const": f"kind {i}"}}},
            "then": {"properties": {f"only {i}": {"type": "null"}}, "required": [f"only {i}"]},
        }
        for i in range(count)
    ]
    return {"type": "object", "allOf": each, **more}


def test_twenty_conditions_on_one_key_are_as_many_ways_and_one() -> None:
    """Spelled out they were two to the twentieth, and refused from twelve on."""
    schema = dispatch(20, required=["kind"])
    automaton = compiled(schema).automaton
    assert isinstance(automaton, JsonAutomaton)
    frames = automaton.satisfiable.objects._frames.values()
    assert max(len(frame.ways) for frame in frames) == 21
    assert max(labour(frame.formula) for frame in frames) == 21
    assert accepts(schema, '{"only 4": null, "kind": "kind 4"}')
    assert accepts(schema, '{"kind": "kind 20"}')
    assert not accepts(schema, '{"kind": "kind 4", "only 5": null}')
    assert not accepts(schema, '{"only 4": 1, "kind": "kind 4"}')


def test_without_the_key_every_condition_holds() -> None:
    schema = dispatch(13)
    assert accepts(schema, '{"kind": "kind 3", "only 3": null}')
    assert not accepts(schema, '{"only 3": null}')
    assert accepts(schema, json.dumps({f"only {i}": None for i in range(13)}))


def test_two_keys_can_tell_apart_one_within_the_other() -> None:
    rows = [
        {
            "if": {"properties": {"kind": {"const": i}, "size": {"const": j}}, "required": ["kind", "size"]},
            "then": {"required": [f"{i}{j}"]},
        }
        for i in range(4)
        for j in range(4)
    ]
    schema = {"type": "object", "allOf": rows}
    assert accepts(schema, '{"kind": 1, "size": 2, "12": 0}')
    assert not accepts(schema, '{"kind": 1, "size": 2, "21": 0}')
    assert accepts(schema, '{"kind": 1}')
