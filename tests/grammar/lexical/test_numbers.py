"""Number sets against exact fractions: a spelling in the domain is accepted iff its value satisfies."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.lexical import NumberSpec, number_language
from grammar.lexical.numbersets import number_set, plain_numbers

SPELLING = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

values = st.one_of(
    st.integers(-200, 200).map(Fraction),
    st.sampled_from(["0.1", "-0.5", "1.25", "99.99", "1e-3", "12345.678", "65535", "1e6", "-2147483648", "1e21"]).map(
        Fraction
    ),
)
multiples = st.sampled_from(
    ["0.01", "0.1", "0.5", "0.25", "1", "2", "3", "5", "7", "10", "11", "100", "1000000", "1.5"]
)
specs = st.builds(
    NumberSpec,
    integer=st.booleans(),
    minimum=st.none() | values,
    maximum=st.none() | values,
    exclusive_minimum=st.none() | values,
    exclusive_maximum=st.none() | values,
    multiple_of=st.none() | multiples.map(Fraction),
)


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """Number texts, most of them of few digits, with exponents that often bring them back to small values."""
    sign = draw(st.sampled_from(["", "-"]))
    whole = draw(st.one_of(st.just("0"), st.integers(1, 300).map(str), st.integers(1, 10**11).map(str)))
    whole += "0" * draw(st.integers(0, 4)) if whole != "0" else ""
    fraction = draw(st.one_of(st.just(""), st.from_regex(r"\A\.0{0,3}[0-9]{1,4}0{0,3}\Z")))
    exponent = draw(st.one_of(st.just(""), st.from_regex(r"\A[eE][+-]?0{0,2}[0-9]\Z"), st.just("e+300")))
    return sign + whole + fraction + exponent


@given(specs, st.lists(spellings(), min_size=30, max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_spelling_in_the_domain_is_accepted_iff_its_value_satisfies(spec: NumberSpec, texts: list[str]) -> None:
    """Both directions, in exact arithmetic."""
    language = number_language(spec)
    assert language.domain.contains(language.dfa)
    for text in texts:
        accepted = language.dfa.accepts(text.encode())
        if language.domain.accepts(text.encode()):
            assert accepted == spec.holds(Fraction(Decimal(text))), (spec, text)
        else:
            assert not accepted
            assert language.notes, text


@given(specs)
@settings(max_examples=60, deadline=None)
def test_the_shortest_member_satisfies_and_emptiness_is_a_finding(spec: NumberSpec) -> None:
    """Closings are values of the set; where the automaton is empty, no small number satisfies."""
    dfa = number_language(spec).dfa
    if not dfa.is_empty:
        text = dfa.shortest().decode()
        assert SPELLING.fullmatch(text)
        assert spec.holds(Fraction(Decimal(text)))
    else:
        assert not any(spec.holds(Fraction(number, 100)) for number in range(-2000, 2000))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**39), 10**39))
@settings(max_examples=200, deadline=None)
def test_doubles_and_integers_as_json_writes_them_are_always_in_the_domain(number: float) -> None:
    """Whatever the constraint, as long as the modulus is small."""
    for spec in (NumberSpec(minimum=Fraction(-1)), NumberSpec(integer=True), NumberSpec(multiple_of=Fraction("0.01"))):
        assert number_language(spec).domain.accepts(repr(number).encode())


@pytest.mark.parametrize("text", ["1", "1.0", "10e-1", "1E0", "0.1e+1", "1e00", "100e-02", "-0", "-0.0", "0e9999"])
def test_an_integer_may_be_spelled_with_point_and_exponent(text: str) -> None:
    """The value counts, not the spelling."""
    assert number_language(NumberSpec(integer=True)).dfa.accepts(text.encode())


@pytest.mark.parametrize("text", ["1.0", "1e0", "01", "+1", "1.", ".5", "1e", "--1", "", "NaN", "1.5"])
def test_a_plain_integer_is_digits_only(text: str) -> None:
    """What draft 4 calls an integer."""
    assert not number_language(NumberSpec(integer=True, plain=True)).dfa.accepts(text.encode())


def test_parts_have_at_most_forty_digits_and_exponents_four() -> None:
    """The stated general limits, met exactly."""
    dfa = number_language(NumberSpec()).dfa
    assert dfa.accepts(b"1" * 40 + b"." + b"2" * 40 + b"e-9999")
    assert not any(dfa.accepts(text) for text in (b"1" * 41, b"0." + b"0" * 41, b"1e00001"))
    assert dfa.is_finite


def test_minus_zero_is_zero() -> None:
    """For bounds too."""
    assert number_language(NumberSpec(minimum=Fraction(0))).dfa.accepts(b"-0.0e5")
    assert not number_language(NumberSpec(exclusive_minimum=Fraction(0))).dfa.accepts(b"-0")


def test_common_sets_are_small() -> None:
    """Hundreds of states, not thousands: each spelling is still in."""
    port = NumberSpec(integer=True, minimum=Fraction(0), maximum=Fraction(65535))
    for spec, most in [
        (NumberSpec(), 100),
        (NumberSpec(minimum=Fraction(0)), 150),
        (NumberSpec(integer=True), 600),
        (port, 700),
    ]:
        assert number_language(spec).dfa.states <= most


def test_contradictions_are_the_empty_language() -> None:
    """Found by exploration, not by cases."""
    assert number_language(NumberSpec(minimum=Fraction(2), maximum=Fraction(1))).dfa.is_empty
    assert number_language(
        NumberSpec(integer=True, exclusive_minimum=Fraction(1), exclusive_maximum=Fraction(2))
    ).dfa.is_empty
    assert number_language(
        NumberSpec(multiple_of=Fraction(100), minimum=Fraction(1), maximum=Fraction(99))
    ).dfa.is_empty


@pytest.mark.parametrize(
    ("multiple", "error"),
    [("123456789", UnsupportedConstraint), ("9974", GrammarTooLarge), ("0", GrammarError), ("-1", GrammarError)],
)
def test_what_cannot_be_enforced_is_refused(multiple: str, error: type[GrammarError]) -> None:
    """With the keyword."""
    with pytest.raises(error) as refusal:
        number_language(NumberSpec(multiple_of=Fraction(multiple)))
    assert refusal.value.keyword == "multipleOf"


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.decimals(-2000, 2000, places=2) | st.integers(-30, 30).map(Decimal), min_size=1, max_size=60),
    st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,5})?", fullmatch=True),
)
def test_a_set_of_numbers_has_every_spelling_without_exponent(values: set[Decimal], text: str) -> None:
    """Zeros behind the point change nothing, minus zero is zero, and what is decided is stated."""
    language = number_set(frozenset(values))
    for value in values:
        for spelled in (format(value, "f"), format(value.normalize(), "f"), f"{value:.20f}", f"{value:.40f}"):
            assert language.accepts(spelled.encode())
    assert language.accepts(text.encode()) == (Decimal(text) in values)
    assert plain_numbers().accepts(text.encode())
    assert not plain_numbers().accepts(text.encode() + b"e0")


def test_a_set_of_numbers_has_the_exponents_that_programs_write() -> None:
    """As Python's and JavaScript's JSON writers spell small and large doubles."""
    language = number_set(frozenset([Decimal("1e-7"), Decimal("2.5e22")]))
    for text in ("1e-07", "1e-7", "2.5e+22", "2.5e+22", "0.0000001", "25000000000000000000000.0"):
        assert language.accepts(text.encode()), text
    assert not language.accepts(b"1e-06")
