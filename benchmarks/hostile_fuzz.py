"""Fuzzing of everything that reads a stranger's bytes: `python -m benchmarks.hostile_fuzz regex [libFuzzer's options]`.

Readers: regex, ebnf, tags, wire, body, faults (`benchmarks.hostile_inputs` says what each may do). Grows
`benchmarks/corpora/<reader>` unless options name other folders, e.g. `-max_total_time=60`. Pure Python parsers are
instrumented; modules with numba's kernels cannot be. Schemas and walks over them: `benchmarks.grammar_fuzz`. Needs the
bench extra.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(
    include=["grammar.lexical.ecma", "grammar.rules.lark", "grammar.rules.gbnf", "grammar.rules.source", "service.body"]
):
    from benchmarks.hostile_inputs import READERS


def main() -> None:
    """Run until stopped, or as libFuzzer's options say."""
    name, options = sys.argv[1], sys.argv[2:]
    corpus = Path(__file__).parent / "corpora" / name
    folders = [] if any(not option.startswith("-") for option in options) else [str(corpus)]
    atheris.Setup([sys.argv[0], "-max_len=300", "-timeout=20", *options, *folders], READERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
