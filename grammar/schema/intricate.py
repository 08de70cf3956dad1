"""Which subschemas could meet a limit of time or size. Most cannot, and are not looked into early."""

import re
from typing import Any, Final

MANY_BRANCHES: Final = 8
LONG_LENGTH: Final = 2000
LONG_PATTERN: Final = 80
_MANY_REPEATS: Final = re.compile(r"\{(?:[0-9]+,)?[0-9]{2,}")
_BRANCHING: Final = ("anyOf", "oneOf", "if", "contains", "not")


def is_intricate(raw: Any) -> bool:
    """Whether one subschema, by its own keywords, asks for a look ahead."""
    if not isinstance(raw, dict):
        return False
    if "not" in raw or any(len(raw.get(k) or ()) > MANY_BRANCHES for k in ("anyOf", "oneOf", "dependentSchemas")):
        return True
    if any(isinstance(raw.get(k), (int, float)) and raw[k] > LONG_LENGTH for k in ("minLength", "maxLength")):
        return True
    if "multipleOf" in raw and (raw["multipleOf"] != int(raw["multipleOf"]) or raw["multipleOf"] > LONG_LENGTH):
        return True
    branching = [
        each for each in raw.get("allOf") or () if isinstance(each, dict) and any(k in each for k in _BRANCHING)
    ]
    return len(branching) > 2 or any(map(_is_heavy, (raw.get("pattern"), *(raw.get("patternProperties") or ()))))


def _is_heavy(pattern: Any) -> bool:
    return isinstance(pattern, str) and (len(pattern) > LONG_PATTERN or _MANY_REPEATS.search(pattern) is not None)
