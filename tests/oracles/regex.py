"""Regular-expression trees matched on a text by the definition: from where to where each node can match.

No automaton and no backtracking: `ends(node, text, at)` is the set of places where a match that begins at `at` can end.
Quadratic and worse, which is fine for short texts.
"""

from grammar.lexical import codepoints, syntax
from grammar.lexical.ecma import WORD


def ends(node: syntax.Node, text: str, at: int) -> set[int]:
    """Where matches of `node` that begin at `at` end."""
    match node:
        case syntax.Chars(ranges):
            return {at + 1} if at < len(text) and codepoints.contains(ranges, ord(text[at])) else set()
        case syntax.Concat(items):
            places = {at}
            for item in items:
                places = {end for place in places for end in ends(item, text, place)}
            return places
        case syntax.Alternate(items):
            return {end for item in items for end in ends(item, text, at)}
        case syntax.Repeat(item, low, high):
            return _repeated(item, low, high, text, at)
        case _:
            return {at} if _holds(node, text, at) else set()


def _holds(node: syntax.Node, text: str, at: int) -> bool:
    """Whether a condition, which reads nothing, is met."""
    match node:
        case syntax.TextStart():
            return at == 0
        case syntax.TextEnd():
            return at == len(text)
        case syntax.WordBoundary(negated):
            return (_word(text, at - 1) != _word(text, at)) != negated
        case syntax.Look(item, ahead, negated):
            before = any(at in ends(item, text, begin) for begin in range(at + 1))
            return (bool(ends(item, text, at)) if ahead else before) != negated
    raise AssertionError(f"{node} reads characters")


def _repeated(item: syntax.Node, low: int, high: int | None, text: str, at: int) -> set[int]:
    found: set[int] = set()
    places, seen = {at}, [set[int]()]
    count = 0
    while places and (high is None or count <= high):
        if count >= low:
            found |= places
            if high is None and places in seen:
                break
        seen.append(places)
        places = {end for place in places for end in ends(item, text, place)}
        count += 1
        if high is None and count > low + len(text) + 1:
            break
    return found


def _word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and codepoints.contains(WORD, ord(text[at]))


def searches(node: syntax.Node, text: str) -> bool:
    """Whether a match begins anywhere."""
    return any(ends(node, text, at) for at in range(len(text) + 1))


def matches(node: syntax.Node, text: str) -> bool:
    """Whether the whole text is a match."""
    return len(text) in ends(node, text, 0)
