"""What a regular expression says, as a value: the syntax tree that parsers make and automata are built from."""

from dataclasses import dataclass
from typing import TypeAlias

from grammar.lexical.codepoints import Ranges


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concat:
    """One after the other; none is the empty word."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Alternate:
    """Any one; none is the empty language."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`item` between `low` and `high` times; without a bound if `high` is None."""

    item: "Node"
    low: int
    high: int | None
    spelling: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A look-around: what follows begins with `item` (`ahead`), or what precedes ends with it."""

    item: "Node"
    ahead: bool
    negated: bool


@dataclass(frozen=True, slots=True)
class TextStart:
    """The beginning of the text."""


@dataclass(frozen=True, slots=True)
class TextEnd:
    """The end of the text."""


@dataclass(frozen=True, slots=True)
class WordBoundary:
    """Between a word character and another (or the text's border); `negated`: anywhere else."""

    negated: bool


Node: TypeAlias = Chars | Concat | Alternate | Repeat | Look | TextStart | TextEnd | WordBoundary

EMPTY = Concat(())


def concat(items: list[Node]) -> Node:
    """The concatenation, flat."""
    return items[0] if len(items) == 1 else Concat(tuple(items))


def repeat(item: Node, low: int, high: int | None, spelling: str = "") -> Node:
    """A repeat in its simplest form, so that stacked repeats such as `(a*){50}` do not multiply."""
    if high == 0:
        return EMPTY
    if (low, high) == (1, 1) or item == EMPTY:
        return item
    if isinstance(item, Repeat):
        if item.high is None and item.low <= 1:
            return Repeat(item.item, item.low * low, None, spelling)
        if (item.low, item.high) == (0, 1):
            return Repeat(item.item, 0, high, spelling)
    return Repeat(item, 0 if low and nullable(item) and consuming(item) else low, high, spelling)


def nullable(node: Node) -> bool:
    """Whether the empty word is in the language wherever it stands (look-arounds count as conditions, so not)."""
    if isinstance(node, Concat):
        return all(nullable(item) for item in node.items)
    if isinstance(node, Alternate):
        return any(nullable(item) for item in node.items)
    if isinstance(node, Repeat):
        return node.low == 0 or nullable(node.item)
    return False


def consuming(node: Node) -> bool:
    """Whether there is no condition (anchor, boundary, look-around) inside."""
    if isinstance(node, Concat | Alternate):
        return all(consuming(item) for item in node.items)
    if isinstance(node, Repeat):
        return consuming(node.item)
    return isinstance(node, Chars)


def anchored_only(node: Node) -> bool:
    """Whether the only conditions inside are the text's start and end."""
    if isinstance(node, Concat | Alternate):
        return all(anchored_only(item) for item in node.items)
    if isinstance(node, Repeat):
        return anchored_only(node.item)
    return isinstance(node, Chars | TextStart | TextEnd)
