"""Which texts a JSON schema accepts: those of valid values, in every spelling; and what is refused, and how."""

import json
import re
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grammar import (
    GrammarError,
    GrammarTooLarge,
    UnsatisfiableConstraint,
    UnsupportedConstraint,
    compile_choice,
    compile_json_schema,
    compile_regex,
    load_grammar,
)
from tests.grammar.walking import END, TOKENS, VOCABULARY, compiled, mask, take, walk
from tests.oracles.validation import decode, is_valid
from tests.strategies import schemas, vocabularies

randoms = st.integers(0, 1 << 30).map(Random)


def accepts(schema: Any, text: str, random: Random | None = None, **options: Any) -> bool:
    """Every token legal in turn and an end token legal after the last; cut at random."""
    matcher = compiled(schema, **options).matcher()
    for token in vocabularies.cut(text.encode(), TOKENS, random or Random(0)):
        if token not in mask(matcher) or not matcher.advance(token):
            return False
    return END in mask(matcher)


def agrees_with_jsonschema(schema: Any, values: list[Any], random: Random) -> None:
    """Each value is accepted iff the jsonschema library finds it valid; nothing at all may be: then none is."""
    for value in values:
        text = json.dumps(value)
        expected = is_valid(schema, decode(text))
        try:
            assert accepts(schema, text, random) == expected, f"{text} under {schema}"
        except UnsatisfiableConstraint:
            assert not expected


@settings(max_examples=12, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), schemas.values(), randoms)
def test_a_value_is_accepted_in_every_spelling_exactly_when_it_validates(
    schema: Any, value: Any, random: Random
) -> None:
    """Compact, spaced, indented, with and without escapes, against the jsonschema library."""
    expected = is_valid(schema, decode(json.dumps(value)))
    try:
        for text in schemas.spellings(value):
            assert accepts(schema, text, random) == expected, f"{text!r} under {schema}"
    except UnsatisfiableConstraint:
        assert not expected


@settings(max_examples=15, deadline=None)
@given(schemas.everything(2), schemas.values(), randoms)
def test_whatever_is_not_refused_is_judged_as_the_library_judges_it(schema: Any, value: Any, random: Random) -> None:
    """The keywords beyond the first milestone."""
    expected = is_valid(schema, decode(json.dumps(value)))
    try:
        assert accepts(schema, json.dumps(value), random) == expected
    except UnsatisfiableConstraint:
        assert not expected
    except (UnsupportedConstraint, GrammarTooLarge):
        return


@settings(max_examples=15, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms)
def test_random_texts_that_end_validate(schema: Any, random: Random) -> None:
    """Whatever a random walk spells and may end, validates."""
    try:
        matcher = compiled(schema).matcher()
    except UnsatisfiableConstraint:
        return
    for text in walk(matcher, random, 25):
        if matcher.is_accepting:
            assert is_valid(schema, decode(text)), f"{text!r} under {schema}"


@settings(max_examples=15, deadline=None)
@given(schemas.everything(2), randoms)
def test_texts_under_any_keywords_can_be_closed_and_then_validate(schema: Any, random: Random) -> None:
    """From wherever a random walk stops, choices within the budget end in a valid text; no position is a dead end."""
    try:
        matcher = compiled(schema).matcher()
    except (UnsatisfiableConstraint, UnsupportedConstraint, GrammarTooLarge):
        return
    text = list(walk(matcher, random, 12))[-1]
    while not matcher.is_accepting:
        token = random.choice([token for token in mask(matcher, matcher.tokens_to_finish) if TOKENS[token]])
        assert matcher.advance(token)
        text += TOKENS[token]
    assert is_valid(schema, decode(text)), f"{text!r} under {schema}"


@settings(max_examples=10, deadline=None)
@given(schemas.core(2), randoms)
def test_a_grammar_survives_being_written_and_read(schema: Any, random: Random) -> None:
    """to_bytes and load_grammar: the same fingerprint, least budget and masks."""
    try:
        grammar = compiled(schema)
    except UnsatisfiableConstraint:
        return
    again = load_grammar(grammar.to_bytes(), VOCABULARY)
    assert (again.fingerprint, again.least_budget) == (grammar.fingerprint, grammar.least_budget)
    ours, theirs = grammar.matcher(), again.matcher()
    for text in walk(ours, random, 5):
        theirs = again.matcher()
        assert take(theirs, text)
        assert mask(theirs) == mask(ours)


@settings(max_examples=10, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms)
def test_clones_and_rollbacks_equal_a_replay(schema: Any, random: Random) -> None:
    """A clone goes its own way; rollback(n) undoes the last n tokens."""
    try:
        matcher = compiled(schema).matcher()
    except UnsatisfiableConstraint:
        return
    seen = [(mask(matcher), matcher.tokens_to_finish)]
    for _ in walk(matcher, random, 8):
        other = matcher.clone()
        for token in sorted(mask(other))[:2]:
            other.advance(token)
        seen.append((mask(matcher), matcher.tokens_to_finish))
    seen = seen[1:]
    for back in range(len(seen)):
        undone = matcher.clone()
        undone.rollback(back)
        assert (mask(undone), undone.tokens_to_finish) == seen[len(seen) - 1 - back]


@settings(max_examples=12, deadline=None)
@given(st.one_of(schemas.core(2), schemas.recursive()), randoms, st.sampled_from(["json", "spaced", "compact"]))
def test_forced_text_is_what_the_masks_force(schema: Any, random: Random, whitespace: str) -> None:
    """forced_tokens: the run of single-token masks. forced_bytes: the longest beginning of every completion."""
    try:
        matcher = compiled(schema, whitespace=whitespace, property_order="schema").matcher()
    except UnsatisfiableConstraint:
        return
    for _ in walk(matcher, random, 5):
        probe, run = matcher.clone(), list[int]()
        while len(legal := mask(probe)) == 1 and not probe.is_finished and len(run) < 50:
            (token,) = legal
            run.append(token)
            assert probe.advance(token)
        assert matcher.forced_tokens()[:50] == run
        bytewise, spelled = matcher.clone(), b""
        for _ in range(30):
            first = {TOKENS[token][:1] for token in mask(bytewise)}
            if len(first) != 1 or first == {b""}:
                break
            spelled += first.pop()
            assert take(bytewise, spelled[-1:])
        assert matcher.forced_bytes()[:30] == spelled


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        ({"const": 1}, ["1", "1.0", "10e-1", "0.1e1"], ["2", "1.01", "true", '"1"', " 1", "1 ", "01", "+1"]),
        ({"type": "integer"}, ["-0", "1e2", "1.0", "100e-2"], ["1.5", "1e-1", "00", "1.", ".1", "1e", "-"]),
        ({"type": "number", "exclusiveMinimum": 0}, ["1e-9999", "0.1", "5E+3"], ["0", "-1", "0e5", "0.0", "1e-99999"]),
        (
            {"type": "string", "maxLength": 1},
            ['"😀"', '"\\ud83d\\ude00"', '"\\/"', '""'],
            ['"ab"', '"\\ud83d"', '"\\x"'],
        ),
        ({"type": "string", "pattern": "^é$"}, ['"é"', '"\\u00e9"', '"\\u00E9"'], ['"e"', '"éé"', '"\\u00e8"']),
        ({"enum": ["a\n", None, [1, {"b": 2}]]}, ['"a\\n"', '"a\\u000a"', "null", '[1, {"b": 2.0}]'], ['"a"', "[1]"]),
        (
            {"type": "object"},
            ["{}", "{ }", "{\n}", '{"a": 1, "b": 2}'],
            ['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', "{,}"],
        ),
        ({"type": "array"}, ["[\n\t1\n]", "[1 ,2]"], ["[1  ]", "[1,]", "[\n\n1]", "[1\r\n]"]),
        ({"required": ["z"]}, ['{"y": 1, "z": 2}', "[]", "3"], ["{}", '{"y": 1}']),
        ({"properties": {"a": False}}, ['{"b": 1}'], ['{"a": 1}']),
        (
            {"prefixItems": [{"type": "null"}], "items": {"type": "boolean"}},
            ["[]", "[null, true]"],
            ["[true]", "[null, null]"],
        ),
        (True, ["0", '{"a": [null]}'], ["nul", ""]),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}, ["[null, 1]"], ["[1]"]),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "maxLength": 0}
            | {"definitions": {"a": {"type": "string"}}},
            ['"abc"'],
            ["1"],
        ),
    ],
)
def test_chosen_texts(schema: Any, yes: list[str], no: list[str]) -> None:
    """Spellings worked out by hand."""
    assert [text for text in yes if not accepts(schema, text)] == []
    assert [text for text in no if accepts(schema, text)] == []


UNIQUE = {"uniqueItems": True}
FEW_OBJECTS = {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        (
            UNIQUE,
            ["[1, true, 0, false]", "[]", '"x"', '[{"a": 0}, {"a": false}]'],
            ["[1, 1.0]", "[1,10e-1]", "[0, -0]"],
        ),
        (UNIQUE, ['["a", "b", [], {}]', "[null]"], ['["a", "\\u0061"]', "[null, 1, null]", "[[], []]", "[{}, [], {}]"]),
        (
            UNIQUE,
            ['[{"a": 1, "b": 2}, {"b": 2, "a": 2}]', '[{"a": 1}, {"a": 1, "b": 1}, {"b": 1}]'],
            ['[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1e0}]'],
        ),
        (UNIQUE, ["[[1], [1, 2], [2]]", "[[[1], 2], [[1], 3]]"], ["[[1], [1]]", "[[1, [2]], [1, [2]]]"]),
        ({**UNIQUE, "items": FEW_OBJECTS}, ['[{}, {"a": true}, {"a": false}]'], ['[{}, {"a": true}, {"a": false}, {}']),
        (
            {**UNIQUE, "prefixItems": [{"enum": ["a", "b"]}, {"const": "a"}], "minItems": 2},
            ['["b", "a"]', '["b", "a", 1]'],
            ['["a"', '["b", "a", "b"'],
        ),
        (
            {**UNIQUE, "items": {"type": "integer", "minimum": 1, "maximum": 3}, "minItems": 3},
            ["[3, 1, 2]"],
            ["[3, 1]", "[1, 2, 3,"],
        ),
        ({**UNIQUE, "items": {**UNIQUE, "type": "array"}}, ["[[1, 2], [2, 1]]"], ["[[1, 1]", "[[1, 2], [1, 2]]"]),
        ({"not": UNIQUE}, ["[1, 2, 1]", "[[1], [1.0]]"], ["[]", "[1, 2]", "3"]),
        ({"not": UNIQUE, "maxItems": 2}, ["[5, 5]"], ["[5, 6"]),
        (
            {"not": UNIQUE, "prefixItems": [{"type": "string"}, {"enum": ["a", 1]}], "items": False},
            ['["a", "a"]'],
            ['["b"', '["a", 1'],
        ),
    ],
)
def test_unique_items_are_compared_as_json(schema: Any, yes: list[str], no: list[str]) -> None:
    """Numbers by value, objects without order; and what would leave no room for later items is not begun."""
    assert [text for text in yes if not accepts({"type": ["array", "string"], **schema}, text)] == []
    assert [text for text in no if accepts(schema, text)] == []


def test_unique_items_run_out() -> None:
    """Fewer different values than items asked for: nothing satisfies it."""
    for items in (FEW_OBJECTS, {"enum": [1, 2, 3]}, {"type": "integer", "minimum": 1, "maximum": 3}):
        compiled({"type": "array", **UNIQUE, "items": items, "minItems": 3})
        with pytest.raises(UnsatisfiableConstraint):
            compiled({"type": "array", **UNIQUE, "items": items, "minItems": 4})


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        (
            {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {}}, "required": ["b"]}]},
            ['{"a": 1}', '{"a": 1, "b": 2}', '{"b": 2}'],
            ['{"a": "x"', '{"c": 1', '{"a": "x", "b": 2}'],
        ),
        (
            {"if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"patternProperties": {"^x": {}}}},
            ['{"k": 1, "xy": 2}', "{}"],
            ['{"k": 2', '{"xy": 1}', '{"k": 1, "y": 1'],
        ),
        ({"prefixItems": [{}], "contains": {"type": "null"}}, ["[1, null]", "[1, null, null]"], ["[1, 2", "[null, 1"]),
    ],
)
def test_what_nothing_evaluates_is_excluded(schema: Any, yes: list[str], no: list[str]) -> None:
    """unevaluatedProperties and unevaluatedItems see through applicators, as far as these hold."""
    closed = {"type": ["object", "array"], **schema, "unevaluatedProperties": False, "unevaluatedItems": False}
    assert [text for text in yes if not accepts(closed, text)] == []
    assert [text for text in no if accepts(closed, text)] == []


@pytest.mark.parametrize(
    ("whitespace", "yes", "no"),
    [
        ("compact", '{"a":[1,2],"b":{}}', '{"a": [1,2],"b":{}}'),
        ("spaced", '{"a": [1, 2], "b": {}}', '{"a":[1,2],"b":{}}'),
        ("spaced", '{"a": [1, 2], "b": {}}', '{"a": [1, 2 ], "b": {}}'),
        ("json", '{\n    "a" : [ 1 ,2],"b":{ }\n}', '{  "a": [1, 2], "b": {}}'),
        ("json", '{"a":\n' + " " * 64 + '[1], "b": {}}', '{"a":\n' + " " * 65 + '[1], "b": {}}'),
    ],
)
def test_whitespace_styles(whitespace: str, yes: str, no: str) -> None:
    """Each style accepts its own and refuses others."""
    assert accepts(True, yes, whitespace=whitespace)
    assert not accepts(True, no, whitespace=whitespace)


def test_property_order_of_the_schema_is_kept() -> None:
    """Named ones as they appear, through allOf; then other required names; then the rest."""
    schema = {"properties": {"b": {}, "a": {}}, "required": ["z"], "type": "object"}
    in_order = ['{"b": 1, "a": 1, "z": 1, "q": 1}', '{"z": 1}', '{"a": 1, "z": 1, "y": 1, "c": 1}']
    out_of_order = ['{"a": 1, "b": 1, "z": 1}', '{"z": 1, "a": 1}', '{"q": 1, "z": 1}']
    assert [text for text in in_order if not accepts(schema, text, property_order="schema")] == []
    assert [text for text in out_of_order if accepts(schema, text, property_order="schema")] == []
    assert [text for text in out_of_order if not accepts(schema, text)] == []
    constant = {"const": {"b": 1, "a": 2}}
    assert accepts(constant, '{"a": 2, "b": 1}', property_order="schema")


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"),
    [
        ({"type": "text"}, "", "type"),
        ({"properties": {"a": {"minLength": -1}}}, "/properties/a", "minLength"),
        ({"items": {"enum": 3}}, "/items", "enum"),
        ({"anyOf": []}, "", "anyOf"),
        ({"properties": {"a/b": {"pattern": "("}}}, "/properties/a~1b", "pattern"),
        ({"$ref": "#/$defs/missing"}, "", "$ref"),
        ({"allOf": [{"required": "a"}]}, "/allOf/0", "required"),
        ({"multipleOf": 0}, "", "multipleOf"),
        ({"additionalProperties": 3}, "", "additionalProperties"),
    ],
)
def test_a_malformed_schema_is_refused_with_its_place(schema: Any, pointer: str, keyword: str) -> None:
    """pointer names the schema object, keyword what is wrong in it, the message both."""
    with pytest.raises(GrammarError) as refusal:
        compile_json_schema(schema, VOCABULARY)
    assert (refusal.value.pointer.removeprefix("#").removesuffix(f"/{keyword}"), refusal.value.keyword) == (
        pointer,
        keyword,
    )
    assert keyword in str(refusal.value)


@pytest.mark.parametrize("schema", [3, "x", None, [], 1.5])
def test_what_is_not_a_schema_at_all_is_refused(schema: Any) -> None:
    """Neither an object nor a boolean."""
    with pytest.raises(GrammarError):
        compile_json_schema(schema, VOCABULARY)


@pytest.mark.parametrize(
    ("schema", "keyword", "error"),
    [
        ({"properties": {"a": {"pattern": "(a)\\1"}}}, "pattern", UnsupportedConstraint),
        ({"$ref": "https://example.com/other.json"}, "$ref", GrammarError),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(schema: Any, keyword: str, error: type[GrammarError]) -> None:
    """With a reason; nothing is fetched."""
    with pytest.raises(error) as refusal:
        compile_json_schema(schema, VOCABULARY)
    assert refusal.value.keyword == keyword
    assert refusal.value.reason


def test_a_length_beside_alternatives_is_counted_not_unrolled() -> None:
    """As long as it holds in any case, however long it is."""
    schema = {"type": "string", "maxLength": 40_000, "minLength": 3, "anyOf": [{"pattern": "^a+$"}, {"pattern": "b"}]}
    grammar = compiled(schema)
    for text, expected in (("aaa", True), ("aa", False), ("ccb", True), ("ccc", False), ("b", False)):
        matcher = grammar.matcher()
        assert (take(matcher, f'"{text}"'.encode()) and matcher.is_accepting) is expected, text
    assert grammar.automaton.tables.states < 200
    matcher = grammar.matcher()
    assert take(matcher, b'"' + b"b" * 40_000)
    assert not take(matcher.clone(), b"b")
    assert take(matcher, b'"')


def test_finitely_many_property_names_run_out() -> None:
    """Only the name "" is allowed: a second key is not begun, two are not asked for."""
    names = {"type": "object", "propertyNames": {"type": "string", "maxLength": 0}}
    matcher = compiled(names).matcher()
    assert take(matcher, b'{"":1')
    assert not matcher.advance(TOKENS.index(b","))
    with pytest.raises(UnsatisfiableConstraint):
        compiled({**names, "minProperties": 2})


def test_draft_4_integers_have_no_fraction_and_no_exponent() -> None:
    """There 1.0 is a number, not an integer."""
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer"}
    assert accepts(schema, "12")
    assert not accepts(schema, "12.0")
    assert not accepts(schema, "1e2")


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "string", "minLength": 2, "maxLength": 1},
        {"type": "integer", "minimum": 1.2, "maximum": 1.8},
        {"type": "string", "pattern": "^a{3}$", "maxLength": 2},
        {"type": "object", "required": ["a"], "properties": {"a": False}},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "array", "minItems": 1, "items": False},
        {
            "$ref": "#/$defs/n",
            "$defs": {"n": {"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/$defs/n"}}}},
        },
        {"enum": [1, "a"], "type": "boolean"},
        {"enum": []},
    ],
)
def test_what_nothing_satisfies_is_said_to_be_unsatisfiable(schema: Any) -> None:
    """Recursion without a base case included."""
    with pytest.raises(UnsatisfiableConstraint):
        compile_json_schema(schema, VOCABULARY)


@pytest.mark.parametrize(
    "options",
    [{"whitespace": "wide"}, {"property_order": "alphabetical"}, {"formats": "ignore"}, {"max_whitespace": -1}],
)
def test_unknown_option_values_are_refused(options: dict[str, Any]) -> None:
    """A ValueError or TypeError at once."""
    with pytest.raises((ValueError, TypeError)):
        compile_json_schema(True, VOCABULARY, **options)


def test_formats_are_asserted_or_annotated_and_always_explained() -> None:
    """As the option says; an unknown format is an annotation."""
    schema = {"type": "string", "format": "date"}
    assert accepts(schema, '"2024-02-29"')
    assert not accepts(schema, '"2024-02-30"')
    assert accepts(schema, '"whatever"', formats="annotation")
    assert accepts({"type": "string", "format": "made-up"}, '"whatever"')
    assert "made-up" in str(compiled({"type": "string", "format": "made-up"}).explain())


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        ({"not": {"format": "hostname"}}, ['"a b"', '""', '"-a"', '"a."'], ['"example.com"', '"xn--c1yn36f"']),
        ({"not": {"format": "idn-hostname"}}, ['"a b"', '"a_b"'], ['"example.com"', '"é.com"', '"a\u302eb"']),
        ({"not": {"format": "regex"}}, ['"*a"', '")"', '"?"'], ['"a"', '"(a"', '""', '"(((a)))"']),
        ({"not": {"format": "email"}}, ['"a b@c.d"', '"@b"', '"a@-b"'], ['"a@b.c"']),
        ({"oneOf": [{"format": "hostname"}, {"format": "ipv6"}]}, ['"a.b"', '"::1"'], ['"a b"', '"1.2.3.4.xn--a"']),
        ({"enum": ["xn--a", "b c"], "not": {"format": "hostname"}}, ['"b c"'], ['"xn--a"']),
        (
            {"contains": {"format": "email"}, "maxContains": 1, "items": {"type": "string"}, "minItems": 2},
            ['["a@b.c", "x"]'],
            ['["a@b.c", "d@e.f"', '["x", "y"]'],
        ),
    ],
)
def test_texts_that_a_narrowed_format_does_not_decide_are_left_out(schema: Any, yes: list[str], no: list[str]) -> None:
    """Under a negation, in oneOf, or where it only has to be told: never taken to be outside of the format."""
    wanted = {"type": ["string", "array"], **schema}
    assert [text for text in yes if not accepts(wanted, text, formats="narrow")] == []
    assert [text for text in no if accepts(wanted, text, formats="narrow")] == []


@pytest.mark.parametrize("draft", ["draft-07/schema#", "draft/2019-09/schema", "draft/2020-12/schema"])
def test_host_names_are_offered_whole_or_not_at_all(draft: str) -> None:
    """From draft 7 on they include A-labels, which no automaton tells; by option the others are offered."""
    schema = {"$schema": f"https://json-schema.org/{draft}", "format": "hostname", "type": "string"}
    with pytest.raises(UnsupportedConstraint, match="not a regular language") as caught:
        compiled(schema)
    assert caught.value.pointer == "/format"
    assert accepts(schema, '"a.example"', formats="narrow")
    old = {**schema, "$schema": "http://json-schema.org/draft-06/schema#"}
    assert accepts(old, '"xn--x.example"')


def test_a_metaschema_given_along_says_which_keywords_count() -> None:
    """Without the validation vocabulary `minimum` is an annotation; a required unknown vocabulary is refused."""
    known = "https://json-schema.org/draft/2020-12/vocab/"
    meta = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "http://own.example/meta"}
    schema = {"$schema": "http://own.example/meta", "properties": {"a": {"minimum": 10}, "b": False}}
    applied = {**meta, "$vocabulary": {known + "core": True, known + "applicator": True}}
    documents = {"http://own.example/meta": applied}
    assert accepts(schema, '{"a": 1}', documents=documents)
    assert not accepts(schema, '{"b": 1}', documents=documents)
    strange = {**meta, "$vocabulary": {known + "core": True, "http://own.example/vocabulary": True}}
    with pytest.raises(UnsupportedConstraint):
        compiled(schema, documents={"http://own.example/meta": strange})


def test_two_grammars_of_one_schema_are_one_by_content() -> None:
    """fingerprint: the hash of the plan's content."""
    first, second = compiled({"type": "string"}), compiled({"type": "string"})
    assert first.fingerprint == second.fingerprint != compiled({"type": "integer"}).fingerprint
    assert first.fingerprint != compiled({"type": "string"}, property_order="schema", max_whitespace=3).fingerprint
    assert first.nbytes > 0


@given(st.lists(st.sampled_from(["a", "ab", "b", "é", "", "a b", '"']), min_size=1, max_size=4, unique=True), randoms)
@settings(max_examples=10, deadline=None)
@example(["", "a"], Random(1))
def test_a_choice_is_one_of_its_texts_verbatim(choices: list[str], random: Random) -> None:
    """Not JSON: the bytes of the choice and the end."""
    matcher = compile_choice(choices, VOCABULARY).matcher()
    options = {choice.encode() for choice in choices}
    for text in walk(matcher, random, 6):
        rest = {option[len(text) :] for option in options if option.startswith(text)}
        legal = {i for i, token in enumerate(TOKENS) if token and any(option.startswith(token) for option in rest)}
        assert mask(matcher) == legal | ({END} if b"" in rest else set())


@given(st.sampled_from(schemas.PATTERNS), st.sampled_from(schemas.TEXTS), randoms)
@settings(max_examples=15, deadline=None)
def test_a_regex_matches_whole_texts(pattern: str, text: str, random: Random) -> None:
    """compile_regex: the whole output matches, as re.fullmatch would have it (ASCII classes)."""
    expected = re.compile(f"(?:{pattern})", re.ASCII).fullmatch(text) is not None
    try:
        matcher = compile_regex(pattern, VOCABULARY).matcher()
    except UnsatisfiableConstraint:
        assert not expected
        return
    ids = vocabularies.cut(text.encode(), TOKENS, random)
    assert (all(matcher.advance(token) for token in ids) and matcher.is_accepting) == expected
