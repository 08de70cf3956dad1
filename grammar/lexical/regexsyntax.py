"""ECMA-262 regular expressions as a regular language: the `regex` format, to a bounded depth of groups.

Parentheses nest, names are unique and back-references must exist: none of it is regular. What is offered is a subset:
groups to a fixed depth, no named group but one of literals at the front, back-references only to it and only where its
name is one letter, ranges of letters or digits in order.
"""

from functools import cache
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

_DEPTH = 2
_HEX = "[0-9A-Fa-f]"
_LITERAL = r"[^\^$\\.*+?()\[\]{}|]"
_CATEGORIES = "(?:L[ulmto]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|C[cf]?)"
_ESCAPE = (
    rf"\\(?:[dDwWsStnvfr]|c[A-Za-z]|x{_HEX}{{2}}|u{_HEX}{{4}}|u\{{(?:10{_HEX}{{4}}|{_HEX}{{1,5}})\}}"
    rf"|[pP]\{{{_CATEGORIES}\}}|[!-/:-@\[-`{{-~])"
)


@cache
def regex_of_regexes() -> str:
    """A regular expression for regular expressions."""
    char_class = _char_class()
    plain = f"(?:{_LITERAL}|{_ESCAPE}|\\.|{char_class})"
    quantifier = _quantifier()
    inside = _sequence(plain, quantifier, group=None)
    for _ in range(_DEPTH):
        inside = _sequence(plain, quantifier, group=inside)
    named = rf"\(\?<[A-Za-z_$][A-Za-z0-9_$]*>{_LITERAL}*\)"
    referenced = [rf"\(\?<{name}>{_LITERAL}*\)(?:{_LITERAL}|\\k<{name}>)*" for name in ascii_letters]
    return rf"(?:{'|'.join(referenced)}|(?:{named})?{inside})"


def _sequence(plain: str, quantifier: str, group: str | None) -> str:
    """Alternatives of terms; `group` is what a group may hold."""
    terms = [r"[\^$]", r"\\[bB]", f"{plain}{quantifier}?"]
    if group is not None:
        terms += [rf"\((?:\?:)?{group}\){quantifier}?", rf"\(\?<?[=!]{group}\)"]
    return f"(?:{'|'.join([*terms, '[|]'])})*"


def _char_class() -> str:
    """Members and ordered ranges; a hyphen stands for itself only at either end."""
    ranges = [f"{low}-[{low}-{run[-1]}]" for run in (digits, ascii_lowercase, ascii_uppercase) for low in run]
    member = rf"(?:[^\\\]\-]|{_ESCAPE}|\\b|{'|'.join(ranges)})"
    return rf"\[\^?-?{member}*-?\]"


def _quantifier() -> str:
    ordered = [f"{low},[{low}-9]" for low in range(10)] + ["[0-9],[1-9][0-9]{1,3}", "[1-9][0-9],[1-9][0-9]{2,3}"]
    ordered += [f"{tens}[0-9],[{tens + 1}-9][0-9]" for tens in range(1, 9)]
    return rf"(?:(?:[*+?]|\{{(?:[0-9]{{1,4}},?|{'|'.join(ordered)})\}})\??)"
