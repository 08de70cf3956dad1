"""The matcher as the one mutable handle: whatever it did, it stands where a fresh one that took the same would."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from grammar import Matcher
from tests.grammar.walking import END, TOKENS, compiled, ids_of, mask

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "minProperties": 2},
    {"type": "array", "items": {"type": ["string", "null"], "maxLength": 3}, "uniqueItems": True, "minItems": 2},
    {"anyOf": [{"enum": ["a", "ab", 1, None]}, {"type": "object", "patternProperties": {"^b": {"type": "boolean"}}}]},
]
GRAMMARS = [compiled(schema) for schema in SCHEMAS]


class Steps(RuleBasedStateMachine):
    """The model is the list of tokens taken; what it leads to is asked of a matcher that never went back."""

    @initialize(number=st.integers(0, len(GRAMMARS) - 1))
    def begin(self, number: int) -> None:
        self.grammar = GRAMMARS[number]
        self.matcher = self.grammar.matcher()
        self.taken: list[int] = []

    def replayed(self) -> Matcher:
        """A new matcher that took the same tokens."""
        fresh = self.grammar.matcher()
        assert all(fresh.advance(token) for token in self.taken)
        return fresh

    @rule(pick=st.integers(0, 1 << 20), budget=st.none() | st.integers(0, 20))
    def advance_by_a_legal_token(self, pick: int, budget: int | None) -> None:
        legal = sorted(mask(self.matcher, budget))
        assert legal or budget is not None or self.matcher.is_finished
        if legal:
            token = legal[pick % len(legal)]
            assert self.matcher.advance(token)
            self.taken.append(token)

    @rule()
    def ask_for_the_forced_text(self) -> None:
        """What is remembered of it is what a grammar says that remembers nothing."""
        fresh = compiled(SCHEMAS[GRAMMARS.index(self.grammar)]).matcher()
        assert all(fresh.advance(token) for token in self.taken)
        assert self.matcher.forced_bytes() == fresh.forced_bytes()

    @rule(budget=st.none() | st.integers(0, 20))
    def ask_for_a_shared_mask(self, budget: int | None) -> None:
        """It is the mask of `fill_mask`, given only where the budget excludes nothing."""
        shared = self.matcher.shared_mask(budget)
        if shared is not None:
            assert ids_of(shared.row) == mask(self.matcher, budget) == mask(self.matcher)
            assert not shared.row.flags.writeable
            assert self.replayed().shared_mask() is shared
        else:
            assert budget is not None or self.matcher.is_finished

    @rule(token=st.integers(-1, len(TOKENS)))
    def try_any_token(self, token: int) -> None:
        is_legal = token in mask(self.matcher)
        before = self.matcher.text
        assert self.matcher.advance(token) == is_legal
        if is_legal:
            self.taken.append(token)
        else:
            assert self.matcher.text == before

    @precondition(lambda self: self.taken)
    @rule(share=st.floats(0, 1))
    def roll_back(self, share: float) -> None:
        count = round(share * len(self.taken))
        self.matcher.rollback(count)
        del self.taken[len(self.taken) - count :]

    @rule(token=st.integers(0, len(TOKENS) - 1))
    def go_on_with_a_clone(self, token: int) -> None:
        """What the one left behind does afterwards changes nothing."""
        left_behind, self.matcher = self.matcher, self.matcher.clone()
        left_behind.advance(token)
        left_behind.rollback(0)

    @invariant()
    def it_stands_where_a_fresh_one_would(self) -> None:
        if not hasattr(self, "matcher"):
            return
        fresh, matcher = self.replayed(), self.matcher
        assert matcher.text == fresh.text == b"".join(TOKENS[t] for t in self.taken if t != END)
        assert matcher.is_finished == fresh.is_finished == (END in self.taken)
        assert matcher.is_accepting == fresh.is_accepting
        assert matcher.place == fresh.place
        assert matcher.value_tokens == fresh.value_tokens
        assert (matcher.tokens_to_finish == 0) == (matcher.is_accepting or matcher.is_finished)
        assert mask(matcher) == mask(fresh)


Steps.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestSteps = Steps.TestCase

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("aé~/\\", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=3),
    max_leaves=6,
)
Spelled = Iterator[tuple[bytes, str, str]]


def spelled(value: Any, at: str) -> Spelled:
    """(byte, kind, pointer): where each byte of the compact text stands, told on the way down through the value."""
    if isinstance(value, dict):
        yield b"{", "PUNCTUATION", at
        yield from members(value, at)
    elif isinstance(value, list):
        yield b"[", "PUNCTUATION", at
        yield from items(value, at)
    else:
        is_number = after(value) == "NUMBER"
        kind = "STRING" if isinstance(value, str) else "NUMBER" if is_number else "LITERAL"
        text = json.dumps(value, ensure_ascii=False).encode()
        for i, byte in enumerate(text):
            yield bytes([byte]), kind if i else "PUNCTUATION", at


def members(value: dict[str, Any], at: str) -> Spelled:
    """All behind the brace. A number is open until what follows it has come."""
    inside, kind = at, "PUNCTUATION"
    for i, (key, member) in enumerate(value.items()):
        if i:
            yield b",", kind, inside
        for j, byte in enumerate(json.dumps(key, ensure_ascii=False).encode()):
            yield bytes([byte]), "KEY" if j else "PUNCTUATION", at
        inside = at + "/" + key.replace("~", "~0").replace("/", "~1")
        yield b":", "PUNCTUATION", inside
        yield from spelled(member, inside)
        kind = after(member)
    yield b"}", kind, inside


def items(value: list[Any], at: str) -> Spelled:
    """All behind the bracket."""
    inside, kind = at + "/0", "PUNCTUATION"
    for i, item in enumerate(value):
        if i:
            yield b",", kind, inside
        inside = f"{at}/{i}"
        yield from spelled(item, inside)
        kind = after(item)
    yield b"]", kind, inside


def after(value: Any) -> str:
    """What the byte behind a value inside another belongs to."""
    return "NUMBER" if isinstance(value, int) and not isinstance(value, bool) else "PUNCTUATION"


@settings(max_examples=40, deadline=None)
@given(values, st.integers(0, 1 << 30).map(Random))
def test_the_place_is_told_at_every_token_boundary(value: Any, random: Random) -> None:
    """Kind and pointer, whatever tokens the text is cut into."""
    steps = list(spelled(value, ""))
    text = b"".join(byte for byte, _, _ in steps)
    assert json.loads(text) == value
    matcher, at = compiled(True, whitespace="compact").matcher(), 0
    while at < len(text):
        place = matcher.place
        assert (place.kind.name, place.pointer) == steps[at][1:], f"at {at} of {text!r}"
        fitting = [i for i, token in enumerate(TOKENS) if token and text.startswith(token, at)]
        token = random.choice(fitting)
        assert matcher.advance(token)
        at += len(TOKENS[token])
    assert matcher.is_accepting
    assert matcher.advance(END)
    assert matcher.place.kind.name == "END"


def test_kinds_of_strings_are_told_apart() -> None:
    """Which of them a watermark may touch, and what a report calls them, depends on that."""
    for schema, kind in (
        ({"type": "string"}, "STRING"),
        ({"type": "string", "maxLength": 4}, "STRING"),
        ({"type": "string", "pattern": "^a+$"}, "PATTERN_STRING"),
        ({"enum": ["a", "ab"]}, "ENUM"),
    ):
        matcher = compiled(schema).matcher()
        assert all(matcher.advance(TOKENS.index(bytes([byte]))) for byte in b'"a')
        assert matcher.place.kind.name == kind
