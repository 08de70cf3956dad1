"""Long lists of values: exact, and as cheap as they are long."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.lexical.numbersets import number_set, significant
from tests.grammar.walking import compiled, take


def test_a_long_list_of_numbers_is_exact_within_other_rules() -> None:
    """A listed number stands or falls by its value, whatever else the schema says of it."""
    numbers = [*range(100), 0.5, 1e300]
    assert accepts({"enum": numbers}, "99.0")
    assert accepts({"enum": numbers}, "1e300")
    assert accepts({"enum": numbers}, "99e0")
    assert accepts({"enum": numbers}, "9.9E+01")
    assert accepts({"enum": numbers}, "5e-1")
    assert not accepts({"enum": numbers}, "9.9e2")
    assert not accepts({"enum": numbers}, "100")
    assert not accepts({"enum": numbers, "not": {"enum": [*range(50), "x"]}}, "49")
    assert accepts({"enum": numbers, "not": {"enum": [*range(50), "x"]}}, "50")
    assert accepts({"oneOf": [{"const": i % 90} for i in range(100)]}, "20")
    assert not accepts({"oneOf": [{"const": i % 90} for i in range(100)]}, "5")
    assert accepts({"type": "integer", "not": {"enum": [*range(50)]}}, "50")
    assert not accepts({"type": "integer", "not": {"enum": [*range(50)]}}, "7.0")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_listed_number_comes_in_every_notation_without_needless_zeros(data: st.DataObject) -> None:
    """The point anywhere among the digits; by value, against exact decimals."""
    numbers = st.decimals(-(10**9), 10**9, places=data.draw(st.integers(0, 6)), allow_nan=False)
    chosen = data.draw(st.lists(numbers.filter(bool), min_size=40, max_size=45, unique=True))
    language = number_set(frozenset([*chosen, Decimal(0)]))
    value = data.draw(st.sampled_from(chosen))
    digits, exponent = significant(value)
    at = data.draw(st.integers(1, len(digits)))
    mantissa = f"{digits[:at]}.{digits[at:] or '0'}" if data.draw(st.booleans()) or at < len(digits) else digits
    power = exponent + len(digits) - at
    spelled = f"{'-' * (value < 0)}{mantissa}{data.draw(st.sampled_from('eE'))}"
    spelled += (
        "-" if power < 0 else data.draw(st.sampled_from(["", "+"]))
    ) + f"{abs(power):0{data.draw(st.integers(1, 4))}}"
    assert Decimal(spelled) == value
    assert language.accepts(spelled.encode())
    other = data.draw(st.integers(-9, 9).filter(bool))
    wrong = f"{mantissa}e{power + other}"
    assert language.accepts(wrong.encode()) == (Decimal(wrong) in chosen)
    assert language.accepts(b"-0.0e+17")
    assert language.accepts(b"0E-1234")


def accepts(schema: Any, text: str) -> bool:
    """Whether the schema's grammar takes the text, byte by byte, and may end there."""
    matcher = compiled(schema).matcher()
    return take(matcher, text.encode()) and matcher.is_accepting


def test_a_union_of_many_constants_costs_what_a_list_costs() -> None:
    """Ten thousand branches, of numbers and of strings, by anyOf and by oneOf."""
    for keyword in ("anyOf", "oneOf"):
        for spell in (str, int):
            schema = {keyword: [{"const": spell(i)} for i in range(3_000)]}
            text = "2999" if spell is int else '"2999"'
            assert accepts(schema, text)
            assert not accepts(schema, text.replace("2999", "3000"))


def test_lists_beside_patterns_and_other_lists_are_satisfiable_exactly_if_some_text_is() -> None:
    """Alternatives that can never come are not legal, whether a list, a pattern or only another text decides."""
    letters = {"enum": ["ab", "b", "\ud800"]}
    for schema, possible in (
        ({"allOf": [letters, {"pattern": "^a"}]}, True),
        ({"allOf": [letters, {"pattern": "^c"}]}, False),
        ({"allOf": [letters, {"enum": ["b", "c"]}]}, True),
        ({"allOf": [letters, {"not": {"enum": ["ab", "b"]}}]}, False),
        ({"type": "string", "not": letters}, True),
        ({"type": "string", "not": letters, "pattern": "^(ab|b)$"}, False),
        ({"type": "string", "not": letters, "pattern": "^(ab|b|c)$"}, True),
    ):
        matcher = compiled({"properties": {"k": schema}}).matcher()
        assert take(matcher, b'{"k":"') is possible, schema
