"""Which subschemas could meet a limit of time or size. Most cannot, and are not looked into early."""

import re
from typing import Any, Final

MANY_BRANCHES: Final = 8
UNDECIDED: Final = ("regex",)
"""Formats that can be asserted, but neither negated nor told apart."""
LARGE_MULTIPLE: Final = 2000
MOST_DIGITS: Final = 6
LONG_PATTERN: Final = 80
_MANY_REPEATS: Final = re.compile(r"\{(?:[0-9]+,)?[0-9]{2,}")
_TELLING: Final = frozenset(["not", "anyOf", "oneOf", "dependentSchemas", "multipleOf", "allOf", "format"])
_BRANCHING: Final = ("anyOf", "oneOf", "if", "contains", "not")


def is_intricate(raw: Any) -> bool:
    """Whether one subschema, by its own keywords, asks for a look ahead."""
    if not isinstance(raw, dict) or _TELLING.isdisjoint(raw):
        return False
    if "not" in raw or raw.get("format") in UNDECIDED:
        return True
    if any(len(raw.get(k) or ()) > MANY_BRANCHES for k in ("anyOf", "oneOf", "dependentSchemas")):
        return True
    multiple = raw.get("multipleOf", 1)
    if multiple > LARGE_MULTIPLE or len(str(multiple)) > MOST_DIGITS:
        return True
    branches = [each for each in raw.get("allOf") or () if isinstance(each, dict)]
    return sum(any(k in each for k in _BRANCHING) for each in branches) > 2


def heavy_patterns(raw: Any) -> list[tuple[str, str]]:
    """The patterns of one subschema whose automata could be large, and where they stand in it."""
    if "pattern" not in raw and "patternProperties" not in raw:
        return []
    found = [(raw.get("pattern"), "/pattern")]
    for pattern in raw.get("patternProperties") or ():
        found.append((pattern, "/patternProperties/" + pattern.replace("~", "~0").replace("/", "~1")))
    return [(pattern, where) for pattern, where in found if isinstance(pattern, str) and _is_heavy(pattern)]


def _is_heavy(pattern: str) -> bool:
    return len(pattern) > LONG_PATTERN or _MANY_REPEATS.search(pattern) is not None
