"""How fast are token masks for context-free grammars? Formwork beside its peers, in one run on one core.

    formwork bench rules --engines formwork,llguidance,xgrammar

Three grammars in Lark's spelling over the 131k vocabulary: JSON, arithmetic, and a part of SQL, whose keywords, names
and operators are as ambiguous as grammars without a lexer get. Each text is walked twice token by token, mask then
advance, in CPU time: cold with what the engine finds out on the way, warm with what it kept.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import grammar_engines
from benchmarks.grammar_engines import Row, Start, Steps, Tokenizer, empty_row, load_tokenizer

JSON = r"""
?start: value
?value: object | array | STRING | NUMBER | "true" | "false" | "null"
array: "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair: STRING ":" value
STRING: /"([^"\\\n]|\\["\\\/bfnrt])*"/
NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/
WS: /[ \t\n\r]+/
%ignore WS
"""
ARITHMETIC = r"""
start: expr
expr: expr "+" term | expr "-" term | term
term: term "*" factor | term "/" factor | factor
factor: NUMBER | "(" expr ")" | "-" factor | NAME
NUMBER: /[0-9]+(\.[0-9]+)?/
NAME: /[a-z_][a-z0-9_]*/
WS: /[ \t\n]+/
%ignore WS
"""
SQL = r"""
start: select ";"?
select: "SELECT"i ["DISTINCT"i] columns "FROM"i tables ["WHERE"i cond] ["GROUP"i "BY"i names] [order] ["LIMIT"i INT]
order: "ORDER"i "BY"i names ["ASC"i | "DESC"i]
columns: "*" | expr ["AS"i NAME] ("," expr ["AS"i NAME])*
tables: table ("," table)* | table ("JOIN"i table "ON"i cond)+
table: NAME [NAME] | "(" select ")" NAME
cond: cond "AND"i cond | cond "OR"i cond | "NOT"i cond | "(" cond ")" | test
test: expr ("=" | "<" | ">" | "<=" | ">=" | "<>" | "LIKE"i) expr | expr "IN"i "(" select ")"
    | expr "IS"i ["NOT"i] "NULL"i
expr: expr ("+" | "-" | "*" | "/") expr | NAME ["." NAME] | INT | STRING | NAME "(" [expr ("," expr)*] ")"
    | "(" expr ")"
names: NAME ["." NAME] ("," NAME ["." NAME])*
NAME: /[a-zA-Z_][a-zA-Z0-9_]*/
INT: /[0-9]+/
STRING: /'[^']*'/
WS: /[ \t\n]+/
%ignore WS
"""
TEXTS: dict[str, tuple[str, list[str]]] = {
    "json": (
        JSON,
        [
            '{"name": "Ada Lovelace", "tags": ["a", {"x": [1, -3e10, null, true]}], "deep": [[[{"k": "v\\n w"}]]]}',
            json.dumps([{"id": i, "text": "lorem ipsum " * 3, "v": [i, i * 2]} for i in range(20)], indent=2),
        ],
    ),
    "arithmetic": (
        ARITHMETIC,
        ["(1 + 2) * -(3.5 / foo - bar_2 * (x + (y - (z * 42))))", "((((((1))))))+a*b-c/d+1+2+3+4+5*6*7*8"],
    ),
    "sql": (
        SQL,
        [
            "SELECT DISTINCT a.b AS c, count(x, y) FROM foo f, bar WHERE (a = 1 AND b <> 'it' OR NOT c IN "
            "(SELECT id FROM t WHERE z LIKE 'q%')) GROUP BY a.b, c ORDER BY d DESC LIMIT 10;",
            "select * from (select a+b*2 from t1 join t2 on t1.id = t2.id) x where ((x.y is not null))",
        ],
    ),
}


class Formwork:
    """This project."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        self._base = grammar_engines.Formwork(tokenizer, row)
        self.name = self._base.name

    def compile(self, source: str) -> Start:
        """Starts generations over one grammar."""
        return self._base.starting(self._base.room.compile_ebnf(source, self._base.vocabulary))


class LLGuidance:
    """Its own Lark."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        self._base = grammar_engines.LLGuidance(tokenizer, row)
        self.name = self._base.name

    def compile(self, source: str) -> Start:
        """Starts generations over one grammar."""
        base = self._base
        first = base.library.LLMatcher(base.tokenizer, source, log_level=0)
        if first.is_error():
            raise ValueError(first.get_error())
        address, size = base.row.ctypes.data, base.row.nbytes

        def start() -> Steps:
            matcher = first.deep_copy()
            return Steps(lambda: matcher.unsafe_compute_mask_ptr(address, size), matcher.consume_token)

        return start


class XGrammar:
    """Its reader of Lark, one thread."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        self._base = grammar_engines.XGrammar(tokenizer, row)
        self.name = self._base.name

    def compile(self, source: str) -> Start:
        """Starts generations over one grammar."""
        library: Any = self._base.library
        compiled = self._base.compiler.compile_grammar(library.Grammar.from_lark(source))

        def start() -> Steps:
            matcher = library.GrammarMatcher(compiled)
            return Steps(lambda: matcher.fill_next_token_bitmask(self._base.rows), matcher.accept_token)

        return start


ENGINES: dict[str, Callable[[Tokenizer, Row], Any]] = {
    "formwork": Formwork,
    "llguidance": LLGuidance,
    "xgrammar": XGrammar,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="formwork,llguidance", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--grammars", default=",".join(TEXTS), help=f"of {', '.join(TEXTS)}")
    options = parser.parse_args(arguments)
    tokenizer = load_tokenizer()
    print(f"{platform.machine()}, Python {platform.python_version()}, {len(tokenizer.tokens):,} tokens; µs of CPU")
    print(
        "| engine | grammar | compile + first mask, ms | cold: mean / p50 / p99 / max | warm: mean / p50 / p99 / max |"
    )
    print("|:--|:--|--:|--:|--:|")
    for name in options.engines.split(","):
        engine = ENGINES[name](tokenizer, empty_row(tokenizer))
        for which in options.grammars.split(","):
            source, texts = TEXTS[which]
            print(f"| {engine.name} | {which} | {_measured(engine, source, [tokenizer.encode(t) for t in texts])} |")


def _measured(engine: Any, source: str, texts: list[list[int]]) -> str:
    begun = time.process_time()
    try:
        start = engine.compile(source)
    except Exception as error:
        return f"refused: {str(error).splitlines()[0][:60]} | | "
    start().mask()
    first = (time.process_time() - begun) * 1e3
    rounds = [[each for text in texts for each in _walked(start, text)] for _ in range(2)]
    return f"{first:.1f} | {_shown(rounds[0])} | {_shown(rounds[1])}"


def _walked(start: Start, tokens: list[int]) -> list[float]:
    steps = start()
    found = []
    for token in tokens:
        begun = time.process_time()
        steps.mask()
        taken = steps.take(token)
        found.append((time.process_time() - begun) * 1e6)
        if not taken:
            raise SystemExit(f"an engine refused token {token} of a text that its grammar derives")
    return found


def _shown(times: list[float]) -> str:
    ordered = sorted(times)
    ranks = [ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]]
    return " / ".join(f"{value:,.0f}" for value in (sum(ordered) / len(ordered), *ranks))


if __name__ == "__main__":
    main()
