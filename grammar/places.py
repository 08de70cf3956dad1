"""Where in a text the next token stands."""

from dataclasses import dataclass
from enum import IntEnum


class PlaceKind(IntEnum):
    """What the next token would be part of."""

    KEY = 0
    STRING = 1
    PATTERN_STRING = 2
    ENUM = 3
    NUMBER = 4
    LITERAL = 5
    PUNCTUATION = 6
    WHITESPACE = 7
    FREE = 8
    END = 9


@dataclass(frozen=True, slots=True)
class Place:
    """Where the next token stands; `pointer` names the value in the instance, as a JSON Pointer."""

    kind: PlaceKind
    pointer: str
