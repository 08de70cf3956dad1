"""Position automata: regular expressions whose only conditions are the text's start and end, determinised by bitsets.

Every character of the expression gets a position (Glushkov). A continuation says what may come next, as two bitsets:
one for "in the middle of the text", one for "at its start", so that `^` and `$` may stand anywhere. Sets of positions
are Python integers, and determinisation works on classes of code points: a handful of columns, whatever the encoding.
"""

from dataclasses import dataclass

from grammar.errors import GrammarTooLarge
from grammar.lexical.codepoints import Partition, Ranges, partition
from grammar.lexical.dfa import DEAD, Dfa
from grammar.lexical.limits import Meter
from grammar.lexical.syntax import Alternate, Chars, Concat, Node, Repeat, TextEnd, TextStart
from grammar.lexical.utf8 import lower

_FINAL = 1
"""The bit of a set in which the expression has matched."""
_FINAL_AT_END = 2
"""The bit of a set in which it has matched if the text ends here."""
_FIRST_POSITION = 2


@dataclass(frozen=True, slots=True)
class _Next:
    """What may come next, in the middle of the text and at its start."""

    middle: int
    start: int

    def __or__(self, other: "_Next") -> "_Next":
        return _Next(self.middle | other.middle, self.start | other.start)


def determinise(node: Node, meter: Meter, *, search: bool) -> Dfa:
    """The texts that `node` matches as a whole, or (`search`) that contain a match."""
    machine = _Positions(meter)
    first = machine.build(node, _Next(_FINAL, _FINAL))
    split = partition(tuple(machine.sets))
    table, accepting = _subsets(machine, first, split, search=search)
    return lower(table, accepting, split, meter.limits)


class _Positions:
    """The positions of one expression: what each reads and what may follow it."""

    def __init__(self, meter: Meter) -> None:
        self.follow: list[int] = [0] * _FIRST_POSITION
        self.reads: list[int] = [-1] * _FIRST_POSITION
        self.sets: list[Ranges] = []
        self._set_ids: dict[Ranges, int] = {}
        self.meter = meter

    def build(self, node: Node, then: _Next) -> _Next:
        """What may come next where `node` stands and `then` follows it."""
        if isinstance(node, Chars):
            return self._read(node, then)
        if isinstance(node, Concat):
            for item in reversed(node.items):
                then = self.build(item, then)
            return then
        if isinstance(node, Alternate):
            either = _Next(0, 0)
            for item in node.items:
                either |= self.build(item, then)
            return either
        if isinstance(node, Repeat):
            return self._repeat(node, then)
        if isinstance(node, TextStart):
            return _Next(0, then.start)
        assert isinstance(node, TextEnd), "look-arounds have their own machine"
        return _Next(_at_end(then.middle), _at_end(then.start))

    def union_follows(self, subset: int, targets: list[int], reads: list[tuple[int, ...]]) -> None:
        """Add to each class's target what follows the positions of `subset` that read the class."""
        rest = subset >> _FIRST_POSITION << _FIRST_POSITION
        work = len(targets)
        while rest:
            low = rest & -rest
            rest ^= low
            position = low.bit_length() - 1
            follow = self.follow[position]
            for label in reads[position]:
                targets[label] |= follow
            work += 1
        self.meter.spend(work // 4 + 1)

    def _read(self, node: Chars, then: _Next) -> _Next:
        position = self._position(then.middle)
        self.reads[position] = self._set_ids.setdefault(node.ranges, len(self._set_ids))
        if len(self._set_ids) > len(self.sets):
            self.sets.append(node.ranges)
        return _Next(1 << position, 1 << position)

    def _position(self, follow: int) -> int:
        # A long bitset costs by its length.
        self.meter.spend(1 + len(self.follow) // 500)
        self.follow.append(follow)
        self.reads.append(-1)
        return len(self.follow) - 1

    def _repeat(self, node: Repeat, then: _Next) -> _Next:
        limit = self.meter.limits.max_repeats
        if max(node.low, node.high or 0) > limit:
            raise GrammarTooLarge(f"quantifier {node.spelling} asks for more than {limit} repeats", keyword="pattern")
        if node.high is None:
            then = self._loop(node.item, then) if node.low else self._loop(node.item, then) | then
            copies = node.low - 1
        else:
            after = then
            for _ in range(node.high - node.low):
                then = self.build(node.item, then) | after
            copies = node.low
        for _ in range(copies):
            then = self.build(node.item, then)
        return then

    def _loop(self, item: Node, then: _Next) -> _Next:
        """`item` at least once: a hole stands for "again" until what begins `item` is known."""
        hole_position = self._position(0)
        hole = 1 << hole_position
        entry = self.build(item, then | _Next(hole, hole))
        # Entering again without having read anything adds nothing that `entry` does not hold.
        entry = _Next(entry.middle & ~hole, entry.start & ~hole)
        for position in range(hole_position + 1, len(self.follow)):
            if self.follow[position] & hole:
                self.follow[position] = self.follow[position] & ~hole | entry.middle
        self.meter.spend((len(self.follow) - hole_position) // 4)
        return entry


def _at_end(then: int) -> int:
    return _FINAL_AT_END if then & (_FINAL | _FINAL_AT_END) else 0


def _subsets(
    machine: _Positions, first: _Next, split: Partition, *, search: bool
) -> tuple[list[list[int]], list[bool]]:
    """The subset construction over classes; in a search, a match makes every continuation acceptable."""
    reads = [split.members[piece] if piece >= 0 else () for piece in machine.reads]
    again = first.middle if search else 0
    subsets: list[int] = []
    numbers: dict[int, int] = {}

    def number(subset: int) -> int:
        if search and subset & _FINAL:
            subset = _FINAL
        known = numbers.get(subset)
        if known is None:
            known = numbers[subset] = len(subsets)
            subsets.append(subset)
        return known

    number(first.start)
    table: list[list[int]] = []
    accepting: list[bool] = []
    while len(table) < len(subsets):
        subset = subsets[len(table)]
        accepting.append(bool(subset & (_FINAL | _FINAL_AT_END)))
        if search and subset & _FINAL:
            table.append([numbers[subset]] * split.count)
            continue
        targets = [again] * split.count
        machine.union_follows(subset, targets, reads)
        table.append([number(target) if target else DEAD for target in targets])
        machine.meter.check_states(len(subsets))
    return table, accepting
