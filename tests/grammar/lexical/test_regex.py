"""Patterns against three oracles: the definition of matching, Python's `re`, and interegular's automata."""

import re
from itertools import product

import interegular
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint
from grammar.lexical import Limits, as_counted, compile_pattern, compile_regex, universe
from grammar.lexical.ecma import parse
from tests.oracles.regex import matches, searches

TEXTS = ["".join(letters) for length in range(4) for letters in product("ab-é", repeat=length)]

atoms = st.sampled_from(
    ["a", "b", "-", "é", "[ab]", "[^a]", ".", r"\w", r"\W", "a?", "b*?", r"\d", r"[^\s\S]", r"[\s\S]"]
)


def plain_over(letters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions without conditions."""
    return st.recursive(
        letters,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"])).map(
                lambda pair: f"({pair[0]}){pair[1]}"
            ),
        ),
        max_leaves=6,
    )


plain = plain_over(atoms)
conditions = st.one_of(
    st.sampled_from(["^", "$", r"\b", r"\B"]),
    st.tuples(st.sampled_from(["?=", "?!", "?<=", "?<!"]), plain).map(lambda pair: f"({pair[0]}{pair[1]})"),
)
conditional = st.recursive(
    st.one_of(atoms, conditions),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        inner.map(lambda item: f"(?={item})"),
        inner.map(lambda item: f"(?!{item})"),
    ),
    max_leaves=6,
)


@given(conditional)
@settings(max_examples=100, deadline=None)
@example(r"^(?:a+){2}$")
@example(r"(?<=\ba)")
@example(r"(?:(?!ab).)*$")
@example(r"^(?!-)(?=.*b)[ab-]+(?<!-)$")
@example(r"\Ba\b|(?<!a|b)-")
def test_patterns_mean_what_the_definition_says(pattern: str) -> None:
    """Anchors, boundaries and look-arounds anywhere; as a search and as a match of the whole text."""
    tree = parse(pattern)
    found, whole = compile_pattern(pattern), compile_regex(pattern)
    for text in TEXTS:
        assert found.accepts(text.encode()) == searches(tree, text), (pattern, text)
        assert whole.accepts(text.encode()) == matches(tree, text), (pattern, text)


@given(plain)
@settings(max_examples=60, deadline=None)
def test_plain_patterns_agree_with_python(pattern: str) -> None:
    """Where the two dialects mean the same."""
    ours, theirs = compile_pattern(pattern), re.compile(pattern, re.ASCII)
    assert all(ours.accepts(text.encode()) == bool(theirs.search(text)) for text in TEXTS)


@given(plain_over(st.sampled_from(["a", "b", "-", "[ab]", "[^a]", "."])))
@settings(max_examples=40, deadline=None)
def test_whole_matches_agree_with_interegular(pattern: str) -> None:
    """A second automaton library, on every short text over its own alphabet."""
    theirs = interegular.parse_pattern(pattern).to_fsm()
    ours = compile_regex(pattern)
    for text in ("".join(letters) for length in range(5) for letters in product("ab-", repeat=length)):
        assert ours.accepts(text.encode()) == theirs.accepts(text)


@pytest.mark.parametrize(
    ("pattern", "accepted", "rejected"),
    [
        (r"^\d{4}-\d{2}$", ["2024-01"], ["2024-1", "2024-01\n", "२०२४-01"]),
        (r"^https?://", ["http://é", "https://"], ["ftp://", " http://"]),
        (r"\p{Lu}\P{L}", ["É1"], ["É", "é1"]),
        (r"^\p{Script_Extensions=Any}$|a", ["a"], None),
        (r"^[\w-.]+$", ["a-.b"], ["a b"]),
        (r"^\u{1F600}\ud83d\ude00\x41\cJ$", ["😀😀A\n"], ["😀A\n"]),
        (r"^.$", ["😀", "\u0085"], ["\n", "\u2028", "ab", ""]),
        (r"^\s$", ["\ufeff", "\u00a0", "\u2029"], ["\u200b", ""]),
        (r"^a{,2}b{$", ["a{,2}b{"], ["ab"]),
        (r"^(?i:straße|K)$", ["STRAßE", "k", "\u212a"], ["STRASSE"]),
        (r"(?i)^ab|CD$", ["AB", "xcd"], ["xab"]),
        (r"^[^]$", ["\n"], ["", "ab"]),
        (r"^[\b]\-\/\_\@$", ["\b-/_@"], ["\b"]),
        (r"^(?<year>\d+)$", ["1"], ["x"]),
    ],
)
def test_the_syntax_of_ecma262(pattern: str, accepted: list[str], rejected: list[str] | None) -> None:
    """One line a construct."""
    if rejected is None:
        with pytest.raises(UnsupportedConstraint, match="script"):
            compile_pattern(pattern)
        return
    dfa = compile_pattern(pattern)
    assert [text for text in accepted if not dfa.accepts(text.encode())] == []
    assert [text for text in rejected if dfa.accepts(text.encode())] == []


@pytest.mark.parametrize("regex", [r"(?P<n>ab)\Z", r"\Aab\z", r"(?P<x>a)(?P<y>b)", "a(?!])[]b]"])
def test_python_spellings_are_read_in_regex_constraints(regex: str) -> None:
    """What clients of inference servers send."""
    assert compile_regex(regex) == compile_regex("ab")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a)\1", "back-reference"),
        (r"(?<n>a)\k<n>", "back-reference"),
        (r"a++", "possessive"),
        (r"(?>a)", "atomic"),
        (r"\p{Greek}", "categories"),
        (r"(?m)^a", "flags"),
        (r"(?<!a(?=b))c", "look-behind"),
        ("(" * 200 + ")" * 200, "deep"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(pattern: str, reason: str) -> None:
    """Nothing is approximated."""
    with pytest.raises(UnsupportedConstraint, match=reason):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", ")", "a**", "[b-a]", "a{2,1}", "*", r"\a", r"\u12", "[", "\\", "(?x", r"\p{"])
def test_malformed_patterns_are_errors(pattern: str) -> None:
    """Said to be malformed, with the place."""
    with pytest.raises(GrammarError, match="malformed"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(.*){50}",
        r"((a{0,30}){0,30}){0,30}",
        r"(x+x+)+y",
        r"(?:a?){300}a{300}",
        r"[01]*1[01]{40}$",
        "a{99999}",
    ],
)
def test_hostile_patterns_end_within_the_limits(pattern: str) -> None:
    """Either a small automaton or a refusal that says what was too large."""
    limits = Limits(max_states=3000, max_work=150_000, max_repeats=5000)
    try:
        assert compile_pattern(pattern, limits).states <= 20 * limits.max_states
    except GrammarTooLarge as error:
        assert "more than" in error.message  # noqa: PT017 - either outcome is right


def test_stacked_repeats_collapse() -> None:
    """They describe the same language, and cost the same."""
    assert compile_pattern("^(?:(?:a*)*){50}$") == compile_pattern("^a*$")
    assert compile_pattern("(.*){50}") == universe() == compile_pattern("")


@pytest.mark.parametrize(
    ("pattern", "bounds"),
    [
        ("^.{1,100000}$", (1, 100_000)),
        ("^[A-Fa-f0-9]{64}$", (64, 64)),
        (r"^\w+$", (1, None)),
        ("^(?:a|b)*$", (0, None)),
        ("[a]{3}", None),
        ("^(?:ab){3}$", None),
        ("^a{3}b$", None),
    ],
)
def test_one_counted_class_is_recognised(pattern: str, bounds: tuple[int, int | None] | None) -> None:
    """So that its length can be counted in a register."""
    counted = as_counted(pattern)
    assert (counted and counted[1:]) == bounds
    if counted is not None and bounds == (64, 64):
        assert counted[0] == compile_regex("[A-Fa-f0-9]")
