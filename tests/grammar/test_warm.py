"""Once `warm` has run, no request loads or compiles a kernel: a second of somebody's first token, or ten."""

import subprocess
import sys
from pathlib import Path

REQUESTS = """
import importlib, pkgutil
from numba.core.dispatcher import Dispatcher
import grammar
from grammar import GrammarError, Vocabulary, compile_choice, compile_ebnf, compile_json_schema, compile_regex, warm
from tests.grammar.walking import mask
from tests.strategies import vocabularies

def loaded():
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(grammar.__path__, "grammar.")]
    kernels = {k for m in modules for k in vars(m).values() if isinstance(k, Dispatcher)}
    return {f"{k.py_func.__module__}.{k.py_func.__name__} {signature}" for k in kernels for signature in k.signatures}

TOKENS = [*(bytes([byte]) for byte in range(256)), b'"a', b'":', b'": "', b'{"', b"12", b"}]", b"abc", b""]
FEW = vocabularies.sparse()
FULL, SPARSE = Vocabulary(TOKENS, [len(TOKENS) - 1]), Vocabulary(FEW, [len(FEW) - 1])
warm(FULL)
before = loaded()
NAMES = {"properties": {"alpha": {"type": "string"}, "beta": {"format": "date-time"}}, "additionalProperties": True}
SCHEMAS = [
    True,
    {"type": "object", **NAMES, "required": ["beta"]},
    {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1, "uniqueItems": True},
    {"type": "object", "minProperties": 2, "patternProperties": {"^x": {"enum": ["\\u00e9", 1]}}},
    {"type": "number", "multipleOf": 0.25, "minimum": -3, "not": {"const": 1}},
    {"type": "string", "pattern": "^(ab|c)+$", "minLength": 2, "maxLength": 9},
    {"oneOf": [{"type": "object", **NAMES}, {"enum": [f"word {i}" for i in range(300)]}]},
]
MAKES = [lambda v, s=s: compile_json_schema(s, v) for s in SCHEMAS] + [
    lambda v: compile_regex("[a-z]{2,4}", v), lambda v: compile_choice(["yes", "no"], v),
    lambda v: compile_ebnf("start: \\"a\\" start? \\"b\\"", v), lambda v: compile_ebnf("start: /[a-z ]+/ \\"!\\"", v),
    lambda v: compile_json_schema({"x-source": "input", "type": "string"}, v, source="a quotation"),
]
RESTORED = Vocabulary(TOKENS, [len(TOKENS) - 1])
RESTORED.use_tables(FULL.tables_to_bytes())
for vocabulary in (FULL, SPARSE, RESTORED):
    for make in MAKES:
        try:
            matcher = make(vocabulary).matcher()
            for _ in range(12):
                legal = sorted(mask(matcher, matcher.tokens_to_finish + 1, vocabulary))
                mask(matcher, None, vocabulary), matcher.forced_bytes(), matcher.is_accepting
                if matcher.is_finished or not matcher.advance(legal[len(legal) // 2]):
                    break
        except GrammarError:
            pass
print(*sorted(loaded() - before), sep="\\n")
"""
ROOT = Path(__file__).parents[2]


def test_no_request_waits_for_a_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REQUESTS], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
