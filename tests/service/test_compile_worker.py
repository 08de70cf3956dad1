"""What a compile worker makes of its jobs, without its process."""

from __future__ import annotations

from typing import Any

import pytest

from grammar import Vocabulary, load_grammar
from service.compile_protocol import Compile, Compiled, Refused, Replay, Replayed
from service.compile_worker import answer
from service.constraints import Constraint, ConstraintKind, choice, ebnf, json_schema, regex, structural_tag, substring

TOKENS = [b"", *(bytes([byte]) for byte in range(256))]
VOCABULARY = Vocabulary(TOKENS, [0])
TAG: dict[str, Any] = {
    "type": "structural_tag",
    "format": {"type": "tag", "begin": "<", "content": {"type": "json_schema", "json_schema": {}}, "end": ">"},
}


def job(constraint: Constraint) -> Compile:
    return Compile(kind=constraint.kind, source=constraint.source, options=constraint.options)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (json_schema({"type": "object"}, None, "x"), b'{"a": 1}'),
        (regex("a+", "x"), b"aa"),
        (choice(["a", "b"], "x"), b"b"),
        (ebnf('root ::= "(" root ")" | "x"', None, "x"), b"((x))"),
        (ebnf('start: "a" %json {"type": "array"}', None, "x", "lark"), b"a[1, 2]"),
        (structural_tag(TAG, None, "x"), b'<{"a": [1, 2]}>'),
        (substring("the cat", "x"), b"e c"),
    ],
)
def test_every_kind_compiles_to_a_plan_that_loads_and_replays(constraint: Constraint, text: bytes) -> None:
    compiled = answer(job(constraint), VOCABULARY)
    assert isinstance(compiled, Compiled)
    assert compiled.explanation["kind"] == constraint.kind
    tokens = [byte + 1 for byte in text]
    matcher = load_grammar(compiled.data, VOCABULARY).matcher()
    assert all(matcher.advance(token) for token in tokens)
    assert matcher.is_accepting
    replayed = answer(Replay(plan=compiled.data, tokens=[*tokens, 0], context=4), VOCABULARY)
    assert isinstance(replayed, Replayed)
    assert replayed.illegal is None


@pytest.mark.parametrize(
    ("constraint", "error", "pointer"),
    [
        (ebnf("start: (", None, "x", "lark"), "GrammarError", "line 1, column 9"),
        (ebnf('root ::= "a" root', None, "x"), "UnsatisfiableConstraint", ""),
        (
            structural_tag({"type": "structural_tag", "format": {"type": "token"}}, None, "x"),
            "UnsupportedConstraint",
            "/format",
        ),
        (Constraint(ConstraintKind.STRUCTURAL_TAGS, '"{"', param="x"), "GrammarError", ""),
        (substring({"substring_words": 1}, "x"), "GrammarError", ""),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(constraint: Constraint, error: str, pointer: str) -> None:
    refused = answer(job(constraint), VOCABULARY)
    assert isinstance(refused, Refused)
    assert (refused.error, refused.pointer) == (error, pointer)
