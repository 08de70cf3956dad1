"""The formats of JSON Schema as automata, each after the document that defines it.

Everything is asserted: `compile_format` gives exactly the texts of the format, or a subset of them where the format is
not a regular language or would need too many states; `INEXACT_FORMATS` says so for each. A name that is not in
`FORMATS` is an annotation by the specification.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_letters, digits
from types import MappingProxyType
from typing import Final

import numpy as np

from grammar.lexical.dfa import DEAD, Dfa, canonical
from grammar.lexical.regex import compile_regex
from grammar.lexical.regexsyntax import regex_of_regexes


def _any_of(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


# Dates and times: RFC 3339, sections 5.6 and 5.7.

_YEAR = "[0-9]{4}"
_LEAP_YEAR = _any_of("[0-9]{2}(?:0[48]|[2468][048]|[13579][26])", "(?:[02468][048]|[13579][26])00")
_DATE = _any_of(
    f"{_YEAR}-(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
    f"{_YEAR}-(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    f"{_YEAR}-02-(?:0[1-9]|1[0-9]|2[0-8])",
    f"{_LEAP_YEAR}-02-29",
)
_HOUR_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_FRACTION = r"(?:\.[0-9]+)?"


def _leap_seconds() -> str:
    """Second 60 happens at 23:59 UTC: for each offset of whole quarter hours, at one local time."""
    cases = []
    for ahead in range(0, 24 * 60, 15):
        local = (23 * 60 + 59 + ahead) % (24 * 60)
        offsets = [rf"\+{_clock(ahead)}", f"-{_clock((24 * 60 - ahead) % (24 * 60))}"]
        cases.append(f"{_clock(local)}:60{_FRACTION}{_any_of(*offsets, *([] if ahead else ['[Zz]']))}")
    return _any_of(*cases)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


_TIME = _any_of(f"{_HOUR_MINUTE}:[0-5][0-9]{_FRACTION}(?:[Zz]|[+-]{_HOUR_MINUTE})", _leap_seconds())
_SECONDS = "[0-9]+S"
_MINUTES = f"[0-9]+M(?:{_SECONDS})?"
_HOURS = f"[0-9]+H(?:{_MINUTES})?"
_CLOCK_PART = f"T{_any_of(_HOURS, _MINUTES, _SECONDS)}"
_DAYS = "[0-9]+D"
_MONTHS = f"[0-9]+M(?:{_DAYS})?"
_YEARS = f"[0-9]+Y(?:{_MONTHS})?"
_DURATION = "P" + _any_of(f"{_any_of(_YEARS, _MONTHS, _DAYS)}(?:{_CLOCK_PART})?", _CLOCK_PART, "[0-9]+W")

_LONGEST_NAME = 253

# Addresses: RFC 2673 section 3.2, RFC 4291 section 2.2, RFC 1123 section 2.1, RFC 5321 section 4.1.2, RFC 6531.

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP = "[0-9A-Fa-f]{1,4}"
_LAST_32_BITS = _any_of(f"{_GROUP}:{_GROUP}", _IPV4)


def _ipv6() -> str:
    """Up to seven groups with `::` somewhere, or eight; the last two may be an IPv4 address."""
    forms = [f"(?:{_GROUP}:){{6}}{_LAST_32_BITS}"]
    for before in range(8):
        head = f"(?:{_GROUP}(?::{_GROUP}){{0,{before - 1}}})?" if before else ""
        tails = {7: "", 6: _GROUP}.get(before, f"(?:{_GROUP}:){{{5 - before}}}{_LAST_32_BITS}")
        forms.append(f"{head}::{tails}")
    return _any_of(*forms)


_IPV6 = _ipv6()
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_WIDE_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\u{10FFFF}-]"
_QUOTED = r"\x20\x21\x23-\x5B\x5D-\x7E"
_DOTTED = rf"{_ATOM}+(?:\.{_ATOM}+)*"
_QUOTED_LOCAL = rf'"(?:[{_QUOTED}]|\\[\x20-\x7E])*"'
_ADDRESS_LITERAL = rf"\[(?:{_IPV4}|IPv6:{_IPV6})\]"
# Lower-case and caseless letters of large scripts, in few ranges, and marks that combine with them. A host name is in
# Unicode's composed form, so of its marks only those that compose with none of the letters; RFC 6531 asks for no form.
# Letters written from right to left never meet others in one name.
_LETTERS = (
    r"a-z0-9\u00DF-\u00F6\u00F8-\u00FF\u03B1-\u03C9\u0430-\u045F\u0904-\u0939"
    r"\u0E01-\u0E30\u3041-\u3096\u30A1-\u30FA\u4E00-\u9FFF\uAC00-\uD7A3"
)
_LEFTWARD = (r"\u05D0-\u05EA", r"\u0620-\u063F\u0641-\u064A")
_MARKS = r"\u0300-\u0304\u0306-\u030C"

# Identifiers: RFC 3986 appendix A, RFC 3987 section 2.2, RFC 6570 section 2, RFC 6901, RFC 9562.

_PERCENT = "%[0-9A-Fa-f]{2}"
_UNRESERVED = r"A-Za-z0-9._~\-"
_SUB_DELIMITERS = r"!$&'()*+,;="
_UCS = r"\u00A0-\uD7FF\uF900-\uFDCF\uFDF0-\uFFEF" + "".join(
    rf"\u{{{plane:X}{'1000' if plane == 14 else '0000'}}}-\u{{{plane:X}FFFD}}" for plane in range(1, 15)
)
_PRIVATE = r"\uE000-\uF8FF\u{F0000}-\u{FFFFD}\u{100000}-\u{10FFFD}"


class _Identifiers:
    """The productions of RFC 3986, or of RFC 3987 with its wider characters."""

    def __init__(self, wide: str = "", private: str = "") -> None:
        def some(extra: str) -> str:
            return f"(?:[{_UNRESERVED}{wide}{_SUB_DELIMITERS}{extra}]|{_PERCENT})"

        segment, rest = some(":@"), f"(?:/{some(':@')}*)*"
        host = _any_of(rf"\[(?:{_IPV6}|[Vv][0-9A-Fa-f]+\.[{_UNRESERVED}{_SUB_DELIMITERS}:]+)\]", f"{some('')}*")
        authority = f"(?:{some(':')}*@)?{host}(?::[0-9]*)?"
        with_authority, absolute = f"//{authority}{rest}", f"/(?:{segment}+{rest})?"
        tail = rf"(?:\?(?:{some(':@/?' + private)})*)?(?:#(?:{some(':@/?')})*)?"
        hierarchy = _any_of(with_authority, absolute, f"{segment}+{rest}") + "?"
        relative = _any_of(with_authority, absolute, some("@") + f"+{rest}") + "?"
        self.absolute = rf"[A-Za-z][A-Za-z0-9+.\-]*:{hierarchy}{tail}"
        self.reference = _any_of(self.absolute, f"{relative}{tail}")


_URI = _Identifiers()
_IRI = _Identifiers(_UCS, _PRIVATE)
_VARIABLE_CHAR = f"(?:[A-Za-z0-9_]|{_PERCENT})"
_VARIABLE = rf"{_VARIABLE_CHAR}(?:\.?{_VARIABLE_CHAR})*(?::[1-9][0-9]{{0,3}}|\*)?"
_URI_TEMPLATE = (
    rf"(?:[!#$&'(-;=?-\[\]_a-z~{_UCS}{_PRIVATE}]|{_PERCENT}"
    rf"|\{{[+#./;?&=,!@|]?{_VARIABLE}(?:,{_VARIABLE})*\}})*"
)
_JSON_POINTER = r"(?:/(?:[^~/]|~[01])*)*"
_UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


def _whole(pattern: str) -> Callable[[], Dfa]:
    return lambda: compile_regex(f"(?s:{pattern})")


def _hostname(*, reserved: bool = True) -> Dfa:
    """Labels of at most 63 characters in a name of at most 253; `reserved`: no `--` in third and fourth place.

    The length before a label is kept rounded up to 16, which costs names of many labels a few characters of the limit
    and makes the automaton fifteen times smaller.
    """
    start = _Name(0, 0, hyphen=False, third=False)
    numbers, order = {start: 0}, [start]
    table: list[list[int]] = []
    for state in order:
        targets = [state.after(char, reserved=reserved) for char in "a-."]
        for target in targets:
            if target is not None and target not in numbers:
                numbers[target] = len(order)
                order.append(target)
        table.append([DEAD if target is None else numbers[target] for target in targets] + [DEAD])
    classes = np.full(256, 3, np.uint8)
    for column, chars in enumerate([ascii_letters + digits, "-", "."]):
        classes[[ord(char) for char in chars]] = column
    accepting = np.array([state.length > 0 and not state.hyphen for state in order])
    return canonical(np.array(table, np.int32), accepting, classes)


@dataclass(frozen=True, slots=True)
class _Name:
    """A hostname read so far: characters before this label, in it, and whether its last and third are hyphens."""

    before: int
    length: int
    hyphen: bool
    third: bool

    def after(self, char: str, *, reserved: bool) -> "_Name | None":
        """The name after a dot, a hyphen or (any other `char`) a letter or digit."""
        if char == ".":
            total = (self.before + self.length + 16) // 16 * 16
            ended = self.length > 0 and not self.hyphen and total < _LONGEST_NAME
            return _Name(total, 0, hyphen=False, third=False) if ended else None
        if self.length == 63 or self.before + self.length == _LONGEST_NAME:
            return None
        if char == "-" and (self.length == 0 or (self.length == 3 and self.third)):
            return None
        third = reserved and self.length == 2 and char == "-"
        return _Name(self.before, self.length + 1, hyphen=char == "-", third=third)


def _mailbox(dotted: str, quoted: str, domain: Dfa) -> Dfa:
    """A local part of at most 64 octets, at sign, domain or address literal; no local part is a prefix of another's."""
    local = compile_regex(f"{_any_of(dotted, quoted)}@").intersect(_bytes_at_most(65))
    return _glued(local, domain.union(compile_regex(_ADDRESS_LITERAL)))


def _bytes_at_most(most: int) -> Dfa:
    chain = np.array([[state + 1] for state in range(most)] + [[DEAD]], np.int32)
    return canonical(chain, np.ones(most + 1, np.bool_), np.zeros(256, np.uint8))


def _glued(first: Dfa, second: Dfa) -> Dfa:
    """The concatenation with a first language of which no word is a prefix of another."""
    columns, classes = np.unique(np.stack([first.classes, second.classes]), axis=1, return_inverse=True)
    head, tail = first.table[:, columns[0]], second.table[:, columns[1]]
    ends = first.accepting
    head = np.where(head >= 0, np.where(ends[head], first.states, head), DEAD)
    tail = np.where(tail >= 0, tail + first.states, DEAD)
    accepting = np.concatenate([np.zeros(first.states, np.bool_), second.accepting])
    return canonical(np.concatenate([head, tail]).astype(np.int32), accepting, classes.reshape(-1).astype(np.uint8))


def _email() -> Dfa:
    return _mailbox(_DOTTED, _QUOTED_LOCAL, compile_format("hostname", 4))  # RFC 5321 knows nothing of A-labels


def _idn_email() -> Dfa:
    dotted = rf"{_WIDE_ATOM}+(?:\.{_WIDE_ATOM}+)*"
    quoted = rf'"(?:[{_QUOTED}\u0080-\u{{10FFFF}}]|\\[\x20-\x7E])*"'
    return _mailbox(dotted, quoted, compile_format("hostname").union(compile_regex(_wide_names(_MARKS))))


def _idn_hostname() -> Dfa:
    return compile_format("hostname").union(compile_regex(_wide_names("")))


def _wide_names(marks: str) -> str:
    """Up to four labels, each short enough for an ASCII form of at most 63 characters whatever its letters."""
    labels = (
        rf"[{_LETTERS}][{_LETTERS}\u093E-\u094D{marks}]{{0,11}}",
        *(f"[{range_}]{{1,12}}" for range_ in _LEFTWARD),
    )
    return _any_of(*(rf"{label}(?:\.{label}){{0,3}}" for label in labels))


FORMATS: Final[Mapping[str, Callable[[], Dfa]]] = MappingProxyType(
    {
        "date-time": _whole(f"{_DATE}[Tt]{_TIME}"),
        "date": _whole(_DATE),
        "time": _whole(_TIME),
        "duration": _whole(_DURATION),
        "email": _email,
        "idn-email": _idn_email,
        "hostname": _hostname,
        "idn-hostname": _idn_hostname,
        "ipv4": _whole(_IPV4),
        "ipv6": _whole(_IPV6),
        "uri": _whole(_URI.absolute),
        "uri-reference": _whole(_URI.reference),
        "iri": _whole(_IRI.absolute),
        "iri-reference": _whole(_IRI.reference),
        "uri-template": _whole(_URI_TEMPLATE),
        "uuid": _whole(_UUID),
        "json-pointer": _whole(_JSON_POINTER),
        "relative-json-pointer": _whole(rf"(?:0|[1-9][0-9]*)(?:#|{_JSON_POINTER})"),
        "regex": lambda: compile_regex(regex_of_regexes()),
    }
)
"""The formats that are asserted, and how each is made."""

_WIDE_NAMES: Final = "internationalised names of at most four labels of at most twelve letters; no A-labels (xn--…)"
_NAMES: Final = "the validity of internationalised names (RFC 5891 to 5893) is not a regular language"
UNDECIDABLE: Final[Mapping[str, str]] = MappingProxyType({"hostname": _NAMES, "idn-hostname": _NAMES})
"""Formats of which whole kinds of texts cannot be offered, and why; `hostname` from draft 7 on."""

INEXACT_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "date-time": "leap seconds only with offsets of whole quarter hours",
        "time": "leap seconds only with offsets of whole quarter hours",
        "hostname": "no A-labels (xn--…), whose validity is not regular; names of many labels are a little shorter",
        "email": "domains of many labels are a little shorter",
        "idn-email": _WIDE_NAMES,
        "idn-hostname": _WIDE_NAMES,
        "regex": "groups nest at most two deep; no back-references; ranges of letters and digits",
    }
)
"""Formats of which a subset is offered, and what is left out."""

_CLOCK: Final = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[zZ]|[+-][0-9]{2}:[0-9]{2})"
_PLAIN_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PLAIN_NAME: Final = rf"{_PLAIN_LABEL}(?:\.{_PLAIN_LABEL})*"
_SUPERSETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "date-time": r"[0-9]{4}-[0-9]{2}-[0-9]{2}[tT]" + _CLOCK,
        "time": _CLOCK,
        "hostname": _PLAIN_NAME,
        "idn-hostname": r"[A-Za-z0-9.\-\u0080-\u{10FFFF}]+",
        "email": f"{_any_of(_DOTTED, _QUOTED_LOCAL)}@{_any_of(_PLAIN_NAME, _ADDRESS_LITERAL)}",
        "idn-email": r"[\s\S]+@[\s\S]+",
        "regex": r"(?:[^*+?)][\s\S]*)?",  # no regular expression begins with what only stands after something
    }
)


@lru_cache(maxsize=64)
def decided_texts(name: str, draft: int) -> Dfa:
    """The texts of which it is known whether they are in the format, one of `INEXACT_FORMATS`: those offered, and those
    that no reading admits."""
    return compile_format(name, draft).union(compile_regex(_SUPERSETS[name]).complement(compile_regex(r"[\s\S]*")))


def compile_format(name: str, draft: int = 2020) -> Dfa:
    """The texts of a format in `FORMATS`, or a subset: see `INEXACT_FORMATS`.

    `draft` is the number or year of the JSON Schema draft: before 7, hostnames knew nothing of internationalised names.
    """
    return _made("old hostname" if name == "hostname" and draft < 7 else name)


@lru_cache(maxsize=64)
def _made(name: str) -> Dfa:
    return _hostname(reserved=False) if name == "old hostname" else FORMATS[name]()
