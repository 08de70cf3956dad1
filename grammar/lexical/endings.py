"""Whether a pattern ends by itself: read from its syntax, without an automaton."""

from grammar.lexical.syntax import Alternate, Chars, Concat, Node, Repeat, TextEnd, TextStart


def is_endless(pattern: Node) -> bool:
    """Whether texts of any length contain a match: a repeat without a bound, or no anchor on one side."""
    return not (_is_anchored(pattern, TextStart) and _is_anchored(pattern, TextEnd)) or _is_unbounded(pattern)


def _is_anchored(node: Node, border: type[TextStart | TextEnd]) -> bool:
    """Whether every match begins (ends) where the text does."""
    if isinstance(node, Alternate):
        return all(_is_anchored(item, border) for item in node.items)
    if isinstance(node, Concat):
        edge = node.items if border is TextStart else node.items[::-1]
        return bool(edge) and _is_anchored(edge[0], border)
    if isinstance(node, Repeat):
        return node.low > 0 and _is_anchored(node.item, border)
    return isinstance(node, border)


def _is_unbounded(node: Node) -> bool:
    """Whether some part of the text itself may be of any length; conditions look but take nothing."""
    if isinstance(node, Alternate | Concat):
        return any(map(_is_unbounded, node.items))
    if isinstance(node, Repeat):
        return (node.high is None and _takes(node.item)) or _is_unbounded(node.item)
    return False


def _takes(node: Node) -> bool:
    if isinstance(node, Alternate | Concat):
        return any(map(_takes, node.items))
    return _takes(node.item) if isinstance(node, Repeat) else isinstance(node, Chars)
