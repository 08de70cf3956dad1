"""The compiled loops do what the same code does when Python interprets it."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from grammar.kernels import meaning

SCRIPT = """
from fractions import Fraction
from grammar.lexical import NumberSpec, compile_pattern, literal_language, number_language
one, other = compile_pattern("^[a-z]+[0-9]?$"), compile_pattern("^(?!foo)[a-z0-9]{2,4}$")
spec = NumberSpec(minimum=Fraction(0), maximum=Fraction(9), multiple_of=Fraction(7), integer=True)
sevens = number_language(spec).dfa
words = literal_language([b"a", b"ab", b"cb", b"c", b""])
languages = [one.intersect(other), one.union(other), one.difference(other), sevens, words]
print(*(language.fingerprint.hex() for language in languages))
"""


def fingerprints(**environment: str) -> str:
    """What the script prints in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    return subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True).stdout


def test_interpreted_and_compiled_kernels_agree() -> None:
    """On every kernel of this room, with warnings (an overflow, say) as errors."""
    assert fingerprints(NUMBA_DISABLE_JIT="1") == fingerprints() != ""


def test_a_kernel_means_what_the_kernels_that_it_calls_mean() -> None:
    """So what is kept on disk is made anew when another file changes; how a function is described does not count."""
    texts = {
        "one": "def inner(x):\n  'A sum.'\n  return x + LIMIT\ndef outer(x): return inner(x)",
        "told": "def inner(x):\n  'The sum.'\n  return x + LIMIT\ndef outer(x): return inner(x)",
        "other": "def inner(x): return x - LIMIT\ndef outer(x): return inner(x)",
    }
    found = {}
    for name, text in texts.items():
        for limit in (1, 2):
            module: dict[str, Any] = {"LIMIT": limit}
            exec(text, module)
            module["inner"] = SimpleNamespace(py_func=module["inner"])
            found[name, limit] = meaning(module["outer"])
    assert found["one", 1] == found["told", 1]
    assert len(set(found.values())) == 4
