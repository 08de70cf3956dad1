"""Hostile constraints: each ends within limits of time and memory, with a grammar or a documented error.

A case runs in a process of its own under an address-space and a CPU limit, so that a failure is a result and not a
hanging test. What may come out: "compiled" (and then its first masks and a closing walk work), or a GrammarError.
"""

import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from grammar import GrammarError, GrammarTooLarge, compile_choice, compile_json_schema, compile_regex, warm
from tests.grammar.walking import TOKENS, VOCABULARY, mask
from tests.strategies import schemas

CPU_SECONDS = 10
MEMORY = 1 << 30


def nested(depth: int, leaf: Any, wrap: Callable[[Any], Any]) -> Any:
    """`leaf` wrapped so many times."""
    for _ in range(depth):
        leaf = wrap(leaf)
    return leaf


def product_of_unions(factors: int) -> Any:
    """allOf over anyOf: its normal form has 2 to the power of `factors` terms."""
    names = [f"k{i}" for i in range(factors)]
    terms = [{"anyOf": [{"required": [name]}, {"properties": {name: {"type": "null"}}}]} for name in names]
    return {"type": "object", "allOf": terms}


HOSTILE: dict[str, Callable[[], Any]] = {
    "catastrophic pattern": lambda: {"type": "string", "pattern": "^(a+)+$"},
    "nested counted pattern": lambda: {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"},
    "counted to a million": lambda: {"type": "string", "pattern": "^a{0,1000000}$"},
    "state explosion": lambda: {"type": "string", "pattern": "(a|b)*a(a|b){40}$"},
    "maxLength of a billion": lambda: {"type": "string", "maxLength": 10**9, "minLength": 10**8},
    "minItems of a billion": lambda: {"type": "array", "minItems": 10**9},
    "a thousand items": lambda: {"type": "array", "minItems": 1000},
    "minProperties of a thousand": lambda: {"type": "object", "minProperties": 1000},
    "minProperties beyond integers": lambda: {"type": "object", "minProperties": 1e300},
    "minContains of a thousand": lambda: {"contains": {"const": 1}, "minContains": 1000, "type": "array"},
    "arrays of themselves, all different": lambda: {
        "type": "array",
        "items": {"$ref": "#"},
        "maxItems": 2,
        "uniqueItems": True,
    },
    "counts beyond integers": lambda: {"type": "array", "minItems": 10**30},
    "enum of ten thousand": lambda: {"enum": [f"value {i * 7919}" for i in range(10_000)]},
    "enum of ten thousand objects": lambda: {"enum": [{"a": i, "b": [i]} for i in range(10_000)]},
    "anyOf of ten thousand": lambda: {"anyOf": [{"const": i} for i in range(10_000)]},
    "oneOf of ten thousand": lambda: {"oneOf": [{"const": i} for i in range(10_000)]},
    "oneOf of ten thousand words": lambda: {"oneOf": [{"const": f"w{i}"} for i in range(10_000)]},
    "anyOf of a thousand objects": lambda: {"anyOf": [{"type": "object", "required": [f"k{i}"]} for i in range(1000)]},
    "ten megabytes": lambda: {"properties": {f"property {i}": {"enum": [str(i) * 40]} for i in range(60_000)}},
    "nested ten thousand deep": lambda: nested(10_000, {"type": "null"}, lambda inner: {"items": inner}),
    "allOf ten thousand deep": lambda: nested(10_000, {"type": "null"}, lambda inner: {"allOf": [inner]}),
    "constant ten thousand deep": lambda: {"const": nested(10_000, 1, lambda inner: [inner])},
    "product of unions": lambda: product_of_unions(24),
    "recursion without a base case": lambda: {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"type": "object", "required": ["b"], "properties": {"b": {"$ref": "#/$defs/b"}}},
            "b": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"}},
        },
    },
    "reference to itself": lambda: {"$ref": "#"},
    "references in a circle": lambda: {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "huge multipleOf": lambda: {"type": "number", "multipleOf": 123456789.123456789, "minimum": 1},
    "tiny multipleOf": lambda: {"type": "number", "multipleOf": 1e-300, "maximum": 1},
    "huge bounds": lambda: {"type": "integer", "minimum": 10**400, "maximum": 10**400 + 10**399},
    "many multiples": lambda: {"type": "integer", "allOf": [{"multipleOf": p} for p in (7919, 7907, 7901, 7883)]},
    "lone surrogates": lambda: {"enum": ["\ud800"]},
    "surrogates in a name": lambda: {"properties": {"\udfff": True}, "required": ["\udfff"]},
    "a thousand required names": lambda: {"type": "object", "required": [f"k{i}" for i in range(1000)]},
    "twenty optional names": lambda: {
        "properties": {f"k{i}": {"type": "null"} for i in range(20)},
        "minProperties": 10,
    },
    "not of everything": lambda: {"not": {}},
    "infinite numbers": lambda: {"minimum": float("inf")},
    "no numbers": lambda: {"maximum": float("nan")},
}


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    """Compiled before the first child is born: a server warms them at start, and no limit is meant to cover that."""
    warm(VOCABULARY)


def outcome(make: Callable[[], Any], respond: Any) -> None:
    """Runs in the child: compile, look at some masks, close what is open."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, in_use + MEMORY))
    started = time.process_time()
    try:
        grammar = compile_json_schema(make(), VOCABULARY)
        matcher = grammar.matcher()
        for _ in range(30):
            legal = mask(matcher, matcher.tokens_to_finish)
            if matcher.is_accepting:
                break
            matcher.advance(min(token for token in legal if TOKENS[token]))
        verdict = "compiled"
    except GrammarError as refusal:
        verdict = type(refusal).__name__
    except BaseException as error:
        verdict = f"raised {type(error).__name__}: {str(error)[:200]}"
    respond.send((verdict, time.process_time() - started))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_ends_within_its_limits(name: str) -> None:
    """Compiled or refused with a documented error, in ten seconds of CPU and a gibibyte."""
    context = multiprocessing.get_context("fork")
    receive, respond = context.Pipe(duplex=False)
    child = context.Process(target=outcome, args=(HOSTILE[name], respond))
    child.start()
    respond.close()
    try:
        verdict, _ = receive.recv()
    except EOFError:
        verdict = "died"
    child.join()
    assert verdict in (
        "compiled",
        "GrammarError",
        "UnsupportedConstraint",
        "UnsatisfiableConstraint",
        "GrammarTooLarge",
    ), f"{name}: {verdict}, exit {child.exitcode}"


@pytest.mark.parametrize("schema", [{"type": "array", "minItems": 400}, {"type": "object", "minProperties": 150}])
def test_texts_of_many_members_are_found(schema: dict[str, Any]) -> None:
    """Keys all different, within the budget that was told: every step is one that the mask allows."""
    matcher = compile_json_schema(schema, VOCABULARY).matcher()
    text, left = b"", matcher.tokens_to_finish
    while not matcher.is_accepting:
        token = min(token for token in mask(matcher, left) if TOKENS[token])
        assert matcher.advance(token)
        text, left = text + TOKENS[token], left - 1
    assert left >= 0
    Draft202012Validator(schema).validate(json.loads(text))


def test_more_members_than_anyone_needs_are_refused_by_name() -> None:
    with pytest.raises(GrammarTooLarge, match="minProperties"):
        _ = compile_json_schema({"type": "object", "minProperties": 1e300}, VOCABULARY).least_budget


def test_deep_output_of_a_recursive_schema_is_bounded_or_followed() -> None:
    """A thousand open brackets: either still exact, or no longer legal; never an exception."""
    matcher = compile_json_schema({"type": "array", "items": {"$ref": "#"}}, VOCABULARY).matcher()
    opened = 0
    while opened < 1000 and matcher.advance(TOKENS.index(b"[")):
        opened += 1
    assert opened >= 100
    assert mask(matcher)
    for _ in range(opened):
        assert matcher.advance(TOKENS.index(b"]"))
    assert matcher.is_accepting


@pytest.mark.parametrize(
    "pattern", ["(", "[z-a]", "a{2,1}", "\\", "(?<n>a)\\k<n>", "a{99999999}", "\x00", "(?i:a)", "*"]
)
def test_bad_patterns_are_refused_or_compiled_never_worse(pattern: str) -> None:
    """As a schema's pattern and as a regex of its own."""
    for attempt in (schema_with, regex_of):
        try:
            attempt(pattern)
        except GrammarError as refusal:
            assert str(refusal)  # noqa: PT017


def schema_with(pattern: str) -> object:
    """A schema that asks for the pattern."""
    return compile_json_schema({"type": "string", "pattern": pattern}, VOCABULARY)


def regex_of(pattern: str) -> object:
    """The pattern as a constraint of its own."""
    return compile_regex(pattern, VOCABULARY)


@pytest.mark.parametrize("choices", [[], [1], "ab", [""], ["a", "a"], None, ["\ud800"]])
def test_bad_choices_are_refused_or_compiled_never_worse(choices: Any) -> None:
    """An empty list is refused; repeats are one."""
    try:
        assert mask(compile_choice(choices, VOCABULARY).matcher())
    except GrammarError:
        assert choices not in ([""], ["a", "a"])
    else:
        assert choices != []


KEYWORDS = [
    *(
        "type",
        "properties",
        "required",
        "items",
        "prefixItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
    ),
    *(
        "not",
        "if",
        "then",
        "else",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
    ),
    *(
        "multipleOf",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "$ref",
        "$defs",
        "$id",
        "$anchor",
    ),
    *(
        "$dynamicRef",
        "$schema",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
    ),
    *(
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "minProperties",
    ),
    *("maxContains",),
]
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JUNK)
def test_junk_schemas_are_refused_with_documented_errors(schema: Any) -> None:
    """Fuzz: nothing but GrammarError leaves the compiler, and what compiles has a first mask."""
    try:
        grammar = compile_json_schema(schema, VOCABULARY)
    except GrammarError:
        return
    assert mask(grammar.matcher())


@settings(max_examples=30, deadline=None)
@given(schemas.everything(2), st.lists(st.integers(-5, len(TOKENS) + 5), max_size=30))
def test_any_token_sequence_leaves_the_matcher_sound(schema: Any, tokens: list[int]) -> None:
    """Fuzz of the matcher: illegal ids change nothing, positions always have a mask."""
    try:
        matcher = compile_json_schema(schema, VOCABULARY).matcher()
    except GrammarError:
        return
    for token in tokens:
        taken = matcher.advance(token)
        assert taken <= (0 <= token < len(TOKENS))
        assert matcher.is_finished or mask(matcher)
