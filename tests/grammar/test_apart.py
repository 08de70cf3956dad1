"""Alternatives of `oneOf` that exclude each other are not negated one by one; what is accepted stays what the library
accepts: for alternatives told apart by constants, by types, by keys that are barred, in part, and not at all."""

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.json_automaton import JsonAutomaton
from tests.grammar.test_schemas import accepts, agrees_with_jsonschema
from tests.grammar.walking import compiled

VALUES: list[Any] = [
    {"const": "a"},
    {"enum": ["a", "b"]},
    {"enum": ["b", 1]},
    {"const": 1.0},
    {"type": "string"},
    {"type": "object"},
    {"type": ["null", "integer"]},
    {"not": {"const": "a"}},
    {"anyOf": [{"const": "b"}, {"const": 2}]},
    True,
    False,
]
NAMES = ("k", "l", "m")
alternatives = st.fixed_dictionaries(
    {"properties": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=2)},
    optional={
        "type": st.just("object"),
        "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
        "additionalProperties": st.sampled_from([False, {"const": "b"}]),
        "patternProperties": st.just({"^[kl]$": {"enum": ["a", "b"]}}),
    },
)
choices = st.lists(alternatives, min_size=2, max_size=4).map(lambda each: {"oneOf": each})
schemas = st.one_of(
    choices,
    choices.map(lambda choice: {"type": "object", "not": choice}),
    st.lists(st.one_of(choices, alternatives), min_size=2, max_size=3).map(lambda each: {"oneOf": each}),
    st.tuples(choices, alternatives).map(lambda both: {**both[1], **both[0]}),
    choices.map(lambda choice: {"if": choice, "then": {"required": ["m"]}, "else": {"maxProperties": 1}}),
)
objects: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["a", "b", "c", 1, 2, None, {}]), max_size=3
)


@settings(max_examples=150, deadline=None)
@given(schemas, st.lists(objects, min_size=3, max_size=5), st.integers(0, 1 << 30).map(Random))
def test_exactly_one_means_exactly_one(schema: Any, values: list[Any], random: Random) -> None:
    agrees_with_jsonschema(schema, values, random)


def kinds(count: int) -> dict[str, Any]:
    """Alternatives told apart by a constant, which need and allow much else."""
    others = {"id": {"type": "string"}, "size": {"type": "integer"}, "tags": {"type": "array"}}
    needed = ["kind", "id", "size"]
    each = [
        {"properties": {"kind": {"const": f"kind {i}"}, f"only {i}": {"type": "null"}, **others}, "required": needed}
        for i in range(count)
    ]
    return {"oneOf": [{"type": "object", **one} for one in each]}


def test_many_alternatives_with_a_tag_are_as_many_ways() -> None:
    """Spelled out, each would be combined with every way to fail all others: refused from about a dozen on."""
    schema = kinds(100)
    automaton = compiled(schema).automaton
    assert isinstance(automaton, JsonAutomaton)
    frames = automaton.satisfiable.objects._frames.values()
    assert max(len(frame.ways) for frame in frames) == 100
    assert accepts(schema, '{"id": "x", "only 4": null, "kind": "kind 4", "size": 3, "only 5": 1}')
    assert not accepts(schema, '{"id": "x", "kind": "kind 100", "size": 3}')
    assert not accepts(schema, '{"id": "x", "only 4": 1, "kind": "kind 4", "size": 3}')


def test_alternatives_that_may_hold_together_still_exclude_each_other() -> None:
    schema = {"oneOf": [{"required": ["a"]}, {"required": ["b"]}, {"properties": {"a": False, "b": False}}]}
    assert accepts(schema, '{"a": 1}')
    assert accepts(schema, "{}")
    assert not accepts(schema, '{"a": 1, "b": 2}')


def test_alternatives_that_each_require_a_key_are_as_many_ways() -> None:
    """A negated alternative, "not this key, or another value under it", is one clause: written out it would be two."""
    each = [{"properties": {f"k{i}": {"type": "string"}, "name": {}}, "required": [f"k{i}"]} for i in range(20)]
    schema = {"type": "object", "oneOf": each}
    automaton = compiled(schema).automaton
    assert isinstance(automaton, JsonAutomaton)
    assert max(len(frame.ways) for frame in automaton.satisfiable.objects._frames.values()) == 20
    assert accepts(schema, '{"name": 1, "k3": "x"}')
    assert accepts(schema, '{"k3": "x", "k4": 1}')
    assert not accepts(schema, '{"k3": "x", "k4": "y"}')
    assert not accepts(schema, '{"name": 1, "k3": 1}')
