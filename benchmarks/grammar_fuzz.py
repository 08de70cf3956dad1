"""Fuzzing of the compiler and the matcher: `python -m benchmarks.grammar_fuzz [libFuzzer's options]`.

Bytes become a schema (JSON with a taste for keywords) or a grammar in Lark, and then a walk. Nothing but GrammarError
may leave the compiler, an illegal token changes nothing, and a position that is not finished always has a legal token.
Needs the bench extra. Only the harness itself is instrumented: numba cannot compile kernels whose byte code traces
branches.
"""

import contextlib
import json
import sys
from typing import Any

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
import numpy as np

from grammar import GrammarError, Vocabulary, compile_ebnf, compile_json_schema

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b'":', b'","', b"{}", b""], [259])
KEYWORDS = [
    *("type", "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "items"),
    *(
        "prefixItems",
        "contains",
        "uniqueItems",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "enum",
        "const",
    ),
    *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "pattern", "format", "minLength", "maxLength", "minimum"),
    *(
        "maximum",
        "multipleOf",
        "x-source",
        "x-grammar",
        "$ref",
        "$defs",
        "$id",
        "$anchor",
        "$schema",
        "dependentSchemas",
        "dependencies",
    ),
]
WORDS = [
    *("object", "array", "string", "integer", "number", "null", "date", "#", "#/$defs/a", "a", "^a+$", "(b|c)*", ""),
    *("input", 'start: "a" start "b" |', 'root ::= "x" root? | [a-c]', {"definition": 'start: /a+/ | start "," start'}),
]
EBNF = [
    "start: ",
    "\n",
    "a: ",
    '"x"',
    "a",
    "start",
    "|",
    "(",
    ")",
    "?",
    "*",
    "~2",
    "/[a-z]+/",
    '"y"i',
    "%ignore /b/",
    "X: ",
]


@atheris.instrument_func  # type: ignore[untyped-decorator, unused-ignore]
def value_of(data: Any, depth: int) -> Any:
    """A JSON value that often looks like a schema."""
    kind = data.ConsumeIntInRange(0, 7 if depth else 4)
    if kind <= 1:
        return data.PickValueInList(WORDS)
    if kind == 2:
        return data.ConsumeIntInRange(-5, 40)
    if kind == 3:
        return data.PickValueInList([True, False, None, 0.5, 1e300, -0.0])
    if kind == 4:
        return data.ConsumeUnicodeNoSurrogates(6)
    if kind == 5:
        return [value_of(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    return {data.PickValueInList(KEYWORDS): value_of(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 4))}


@atheris.instrument_func  # type: ignore[untyped-decorator, unused-ignore]
def walk(matcher: Any, tokens: bytes) -> None:
    """Take these tokens where they are legal, and one that is wherever they are not."""
    row = np.zeros(BYTES.words, np.int32)
    for token in tokens:
        if matcher.is_finished:
            return
        matcher.fill_mask(row)
        legal = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        assert len(legal), "no legal token"
        assert matcher.advance(token) == (token in legal), "mask and advance disagree"
        if token not in legal:
            assert matcher.advance(int(legal[token % len(legal)]))


@atheris.instrument_func  # type: ignore[untyped-decorator, unused-ignore]
def attempt(raw: bytes) -> None:
    """One input of the fuzzer."""
    data = atheris.FuzzedDataProvider(raw)
    if data.ConsumeBool():
        schema = value_of(data, 5)
        with contextlib.suppress(GrammarError):
            grammar = compile_json_schema(schema, BYTES, source="a quotation")
            json.dumps(grammar.explain())
            walk(grammar.matcher(), data.ConsumeBytes(40))
        json.dumps(schema)  # which must not have been changed into something else
        return
    source = "start: " + " ".join(data.PickValueInList(EBNF) for _ in range(data.ConsumeIntInRange(1, 16)))
    with contextlib.suppress(GrammarError):
        walk(compile_ebnf(source, BYTES, syntax="lark").matcher(), data.ConsumeBytes(40))


def main() -> None:
    """Run until stopped, or as libFuzzer's options say."""
    atheris.Setup([sys.argv[0], "-len_control=0", "-max_len=400", *sys.argv[1:]], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
