"""The compiled loops as plain Python: the same masks, plans and budgets, seen by coverage and free of overflow."""

import os
import subprocess
import sys
from pathlib import Path

WALKS = """
from random import Random
from grammar import Vocabulary, compile_json_schema
from tests.grammar.walking import mask
from tests.strategies import vocabularies

TOKENS = [*(bytes([byte]) for byte in range(256)), b'"a', b'":', b'{"', b"12", b"}]", b""]
SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]},
    {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1, "uniqueItems": True},
    {"type": "object", "minProperties": 2, "patternProperties": {"^x": {"enum": ["é", 1]}}},
]
for tokens in (TOKENS, vocabularies.sparse()):
    vocabulary = Vocabulary(tokens, [len(tokens) - 1])
    for schema in SCHEMAS[: 3 if tokens is TOKENS else 1]:
        matcher, random = compile_json_schema(schema, vocabulary).matcher(), Random(1)
        left = matcher.tokens_to_finish + 2
        print(left)
        while left and not matcher.is_finished:
            legal = sorted(mask(matcher, left, vocabulary))
            token = random.choice(legal)
            print(token, len(legal), sorted(mask(matcher, None, vocabulary))[:9], matcher.forced_bytes())
            assert matcher.advance(token)
            left -= 1
        assert matcher.is_accepting or matcher.is_finished
"""
ROOT = Path(__file__).parents[2]


def output(**environment: str) -> str:
    """What the walks print."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", WALKS]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_kernels_do_the_same_interpreted_and_compiled() -> None:
    """Random walks under budgets, over whole and sparse vocabularies: every number printed is the same."""
    interpreted = output(NUMBA_DISABLE_JIT="1")
    assert interpreted.count("\n") > 20
    assert interpreted == output(NUMBA_DISABLE_JIT="0")
