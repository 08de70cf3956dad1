"""Whether anything satisfies a schema whose parts refer to each other: against the least fixed point, by iteration."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar import Vocabulary, compile_json_schema

BYTES = Vocabulary([bytes([b]) for b in range(256)] + [b""], [256])
System = list[list[list[int]]]
"""For each definition its alternatives, and for each of those the definitions whose values it must contain."""


def _satisfiable(system: System) -> list[bool]:
    """Which definitions have a value: all that follows from what is known, until nothing does."""
    known = [False] * len(system)
    while True:
        grown = [any(all(known[i] for i in needed) for needed in alternatives) for alternatives in system]
        if grown == known:
            return known
        known = grown


def _alternative(needed: list[int], form: int) -> dict[str, Any]:
    children = [{"$ref": f"#/$defs/d{i}"} for i in needed]
    if form == 0:
        return {"type": "array", "prefixItems": children, "minItems": len(children), "maxItems": 9}
    names = [f"k{at}" for at in range(len(children))]
    return {"type": "object", "properties": dict(zip(names, children, strict=True)), "required": names}


def _definition(alternatives: list[list[int]], form: int) -> dict[str, Any] | bool:
    if not alternatives:
        return False
    return {"anyOf": [_alternative(needed, form) if needed else {"type": "null"} for needed in alternatives]}


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Up to seven definitions, most of which contain others."""
    size = draw(st.integers(1, 7))
    needed = st.lists(st.integers(0, size - 1), min_size=1, max_size=3)
    alternatives = st.lists(needed, max_size=3)
    found = draw(st.lists(alternatives, min_size=size, max_size=size))
    ground = draw(st.integers(0, size - 1))
    return [[*a, []] if at == ground and draw(st.booleans()) else a for at, a in enumerate(found)]


@settings(deadline=None, max_examples=80)
@given(systems(), st.integers(0, 1), st.integers(0, 6))
def test_a_member_is_offered_exactly_if_some_finite_value_satisfies_it(system: System, form: int, first: int) -> None:
    """All definitions in one grammar, from one of them on, so that each cycle is entered anywhere."""
    definitions = {f"d{i}": _definition(alternatives, form) for i, alternatives in enumerate(system)}
    order = [(first + i) % len(system) for i in range(len(system))]
    members = {f"{i}": {"$ref": f"#/$defs/d{i}"} for i in order}
    schema = {"type": "object", "properties": members, "additionalProperties": False, "$defs": definitions}
    matcher = compile_json_schema(schema, BYTES).matcher()
    assert matcher.advance(ord("{"))
    if matcher.advance(ord('"')):
        offered = [matcher.clone().advance(ord(f"{i}")) for i in range(len(system))]
    else:
        offered = [False] * len(system)
    assert offered == _satisfiable(system)
