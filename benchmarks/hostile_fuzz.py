"""Fuzzing of everything that reads a stranger's bytes: `python -m benchmarks.hostile_fuzz regex [libFuzzer's options]`.

Readers: schema, regex, ebnf, tags, wire, body, faults (`benchmarks.hostile_inputs` says what each may do). Grows
`benchmarks/corpora/<reader>` unless options name other folders, e.g. `-max_total_time=60`. The parsers are instrumented
after they are imported, function by function: numba cannot compile a module whose byte code traces branches. Schemas
made of keywords and walks over them: `benchmarks.grammar_fuzz`. Needs the bench extra.
"""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

from benchmarks.hostile_inputs import READERS

_PARSERS = (
    *("grammar.lexical.ecma", "grammar.lexical.regexsyntax", "grammar.rules.lark", "grammar.rules.gbnf"),
    *("grammar.schema.documents", "grammar.schema.keywords", "grammar.schema.evaluated", "grammar.schema.constants"),
    *("grammar.rules.tags", "grammar.rules.source", "service.body", "engine.faults", "engine.wire"),
)


def instrument(module: ModuleType) -> None:
    """Lets the fuzzer see which branches of the module's own functions and methods are taken."""
    classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    owners: list[object] = [module, *classes]
    for owner in owners:
        for name, value in list(vars(owner).items()):
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not value.__closure__:
                setattr(owner, name, atheris.instrument_func(value))


def main() -> None:
    """Run until stopped, or as libFuzzer's options say."""
    name, options = sys.argv[1], sys.argv[2:]
    for parser in _PARSERS:
        instrument(importlib.import_module(parser))
    folders = [] if any(not option.startswith("-") for option in options) else [f"benchmarks/corpora/{name}"]
    assert all(Path(folder).is_dir() for folder in folders), "run it from the root of the repository"
    atheris.Setup([sys.argv[0], "-max_len=300", "-timeout=20", *options, *folders], READERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
