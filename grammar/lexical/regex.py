"""Regular expressions to automata: JSON Schema's `pattern` (a search, ECMA-262) and the `regex` constraint (a match).

One route: parse → syntax tree → positions → classes of code points → bytes → canonical automaton.
"""

from functools import lru_cache

from grammar.lexical.codepoints import Ranges
from grammar.lexical.dfa import Dfa
from grammar.lexical.ecma import Dialect, parse
from grammar.lexical.limits import DEFAULT_LIMITS, Limits, Meter
from grammar.lexical.lookaround import determinise_with_lookaround
from grammar.lexical.positions import determinise
from grammar.lexical.syntax import Chars, Concat, Node, Repeat, TextEnd, TextStart, anchored_only


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str, limits: Limits = DEFAULT_LIMITS) -> Dfa:
    """Every text that contains a match of an ECMA-262 pattern: what JSON Schema's `pattern` accepts."""
    return _compile(parse(pattern), Meter(limits, f"the pattern {_shown(pattern)}"), search=True)


@lru_cache(maxsize=256)
def compile_regex(regex: str, limits: Limits = DEFAULT_LIMITS) -> Dfa:
    """Every text that a regular expression in ECMA-262 or Python spelling matches as a whole."""
    return _compile(parse(regex, Dialect.PYTHON), Meter(limits, f"the regex {_shown(regex)}"), search=False)


@lru_cache(maxsize=1024)
def as_counted(pattern: str) -> tuple[Dfa, int, int | None] | None:
    """For a pattern of the form `^[set]{low,high}$`: the automaton of one character of the set, and the bounds.

    None for every other pattern. Lets the caller count characters in a register instead of spending states on them.
    """
    counted = _counted(parse(pattern))
    if counted is None:
        return None
    ranges, low, high = counted
    return compile_chars(ranges), low, high


def compile_chars(ranges: Ranges) -> Dfa:
    """The texts of exactly one character of a set."""
    return determinise(Chars(ranges), Meter(), search=False)


def _compile(node: Node, meter: Meter, *, search: bool) -> Dfa:
    if anchored_only(node):
        return determinise(node, meter, search=search)
    return determinise_with_lookaround(node, meter, search=search)


def _counted(node: Node) -> tuple[Ranges, int, int | None] | None:
    if not isinstance(node, Concat) or len(node.items) != 3:
        return None
    start, body, end = node.items
    if not (isinstance(start, TextStart) and isinstance(body, Repeat) and isinstance(end, TextEnd)):
        return None
    return (body.item.ranges, body.low, body.high) if isinstance(body.item, Chars) else None


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 80 else pattern[:77] + "…")
