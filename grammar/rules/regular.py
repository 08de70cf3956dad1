"""Grammars without recursion as what they are: regular languages, which compose with everything."""

import numpy as np

from grammar.errors import GrammarTooLarge
from grammar.lexical import DEAD, Dfa, canonical
from grammar.lexical.limits import DEFAULT_LIMITS
from grammar.rules.network import Network
from grammar.rules.positions import Positions
from grammar.rules.terms import Word


def regular_language(network: Network, start: str) -> Dfa | None:
    """The language of a network of one rule; None if it calls others or holds JSON values."""
    if any(not isinstance(label, Word) for edges in network.edges for label, _ in edges):
        return None
    positions = Positions(network, bytewise=False)
    numbers = {positions.entry(start): 0}
    rows: list[list[int]] = []
    ends: list[bool] = []
    order = list(numbers)
    for at in order:
        position = positions.at(at)
        row = [DEAD] * positions.count
        for cls, to in position.moves:
            if to not in numbers:
                numbers[to] = len(order)
                order.append(to)
            row[cls] = numbers[to]
        rows.append(row)
        ends.append(position.ends)
        if len(order) > DEFAULT_LIMITS.max_states:
            raise GrammarTooLarge(f"a regular grammar of more than {DEFAULT_LIMITS.max_states} states")
    ends[0] |= start in network.nullable
    return canonical(np.array(rows, np.int32), np.array(ends, np.bool_), positions.classes)
