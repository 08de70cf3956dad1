"""Who takes a request: the replica on which it costs least, prompt, grammar and queue weighed in one unit.

What it is for: `Router.choose`. What may not enter: sockets, clocks, randomness; every decision is a function of what
was told before, so a trace can be replayed.

The idea: all costs are counted in prompt tokens. A replica that has computed a prompt's beginning saves those tokens;
one that has met the grammar saves the making of its tables; one that is behind costs the tokens that wait there, and
each sequence it runs costs a share of every step. The least sum wins. Three things keep that honest:

- A bound on load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): a replica with more
  than (1 + slack) times the mean number of requests takes no more, however well it knows the prompt.
- What a replica has computed is remembered here, block by block, and forgotten when so much has been sent there since
  that its cache must have turned over. Of what other routers sent there the replica tells the hashes (`learn`).
- Prompts that nobody knows have a home on a ring of hashes. So several routers that do not talk to one another send the
  same beginning to the same place, and a replica that joins or leaves moves few of them.

Only a handful of candidates is looked at, so a decision costs O(blocks + candidates · log replicas).
"""

from __future__ import annotations

import bisect
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from engine.messages import Generate

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """Costs are in prompt tokens."""

    block: int = 64  # tokens; what is remembered of a prompt
    most_blocks: int = 512  # of one prompt
    seat: float = 24.0  # what a sequence that runs or waits costs the next one
    grammar: float = 192.0  # what it costs to make a grammar's tables
    slack: float = 0.25  # above the mean load
    spare: int = 2  # requests above that, so that small fleets are not bound by rounding
    full: float = 0.95  # share of pages in use from which on a replica takes requests only if all are full
    candidates: int = 8  # looked at in a large fleet; a small one is looked at whole
    holders: int = 4  # replicas remembered for each block
    remembered: int = 1 << 18  # blocks; grammars, a sixteenth of it
    memory: float = 0.5  # weight of a report against those before it: a queue lasts less long than a report is old
    jitter: float = 64.0  # drawn, so that routers do not all prefer the same one of several that know a prompt
    points: int = 32  # of each replica on the ring


@dataclass(frozen=True, slots=True)
class Wanted:
    """What routing looks at of a request."""

    blocks: tuple[int, ...]  # chained hashes: blocks[i] names everything up to the end of block i
    tokens: int  # to be computed before the first one comes out, if nothing is cached
    grammar: str | None
    name: int  # of the request itself: where it goes when nothing speaks for any place


def wanted_of(request: Generate, rules: RoutingRules) -> Wanted:
    """The part of a request that decides where it goes. Prefixes of different tenants or adapters are different."""
    version = request.adapter.version if request.adapter else ""
    link = _hash(f"{request.tenant}\0{version}".encode())
    tokens = [*request.prompt, *request.emitted]
    blocks = []
    for start in range(0, min(len(tokens), rules.block * rules.most_blocks) - rules.block + 1, rules.block):
        link = _hash(link.to_bytes(8, "little") + array("i", tokens[start : start + rules.block]).tobytes())
        blocks.append(link)
    return Wanted(tuple(blocks), len(tokens), request.grammar, _hash(request.request_id.encode()))


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica says of itself."""

    queued_tokens: int = 0  # prompt tokens that wait to be computed
    sequences: int = 0  # running and waiting
    page_share: float = 0.0  # of its pages, those held
    cache_tokens: int = 1 << 40  # that its cache holds


@dataclass(slots=True, eq=False)
class _Replica:
    name: str
    life: int  # differs each time it joins: what an earlier life had computed is gone
    salt: int  # of its draws
    load: Load = Load()  # as it said
    others: float = 0.0  # sequences that other routers have there, smoothed over its reports
    others_tokens: float = 0.0  # prompt tokens of those
    own: int = 0  # sequences of this router, now
    own_tokens: int = 0
    pace: float = 1.0  # of its steps, relative to the others'
    odometer: int = 0  # tokens ever sent there

    @property
    def seats(self) -> float:
        return self.others + self.own

    @property
    def behind(self) -> float:
        return self.others_tokens + self.own_tokens


@dataclass(slots=True)
class _Holders:
    """Who has computed something, in which life, and at which reading of its odometer; the latest last."""

    at: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, replica: _Replica, most: int) -> None:
        self.at.pop(replica.name, None)
        self.at[replica.name] = (replica.life, replica.odometer)
        if len(self.at) > most:
            del self.at[next(iter(self.at))]


class Placed:
    """A request on a replica, as long as it is there. Made by `Router.begin`; to be told of first token and end."""

    __slots__ = ("_replica", "_router", "_running", "_tokens")

    def __init__(self, router: Router, replica: _Replica, tokens: int) -> None:
        self._router, self._replica, self._tokens, self._running = router, replica, tokens, True
        self._count(1, tokens)

    def computed(self) -> None:
        """Its prompt is in the cache."""
        self._count(0, -self._tokens)
        self._tokens = 0

    def ended(self) -> None:
        if self._running:
            self._count(-1, -self._tokens)
            self._running, self._tokens = False, 0

    def _count(self, sequences: int, tokens: int) -> None:
        self._replica.own += sequences
        self._replica.own_tokens += tokens
        self._router.count(self._replica, sequences)


class Router:
    """One for each place where requests arrive. `choose`, then `begin`; `report` whenever a replica tells its load.

    Of its own requests a router knows at each moment where they stand; of those of other routers, what the replicas'
    reports leave when its own are taken away.
    """

    def __init__(self, rules: RoutingRules | None = None) -> None:
        self.rules = rules or RoutingRules()
        self._replicas: dict[str, _Replica] = {}
        self._ring: list[tuple[int, str]] = []
        self._blocks: OrderedDict[int, _Holders] = OrderedDict()
        self._grammars: OrderedDict[str, _Holders] = OrderedDict()
        self._seats = 0.0  # of all replicas
        self._lives = 0

    def __len__(self) -> int:
        return len(self._replicas)

    def __contains__(self, name: str) -> bool:
        return name in self._replicas

    @property
    def sequences(self) -> float:
        """Running and waiting, on all replicas, as far as known."""
        return self._seats

    @property
    def remembered(self) -> tuple[int, int]:
        """Blocks and grammars of which it is known who has them."""
        return len(self._blocks), len(self._grammars)

    def names(self) -> set[str]:
        return set(self._replicas)

    def join(self, name: str) -> None:
        """A replica that may be chosen from now on."""
        self._lives += 1
        self._replicas[name] = _Replica(name, self._lives, _hash(name.encode()))
        for point in self._points(name):
            bisect.insort(self._ring, (point, name))

    def leave(self, name: str) -> None:
        """A replica that is gone, with all it had computed."""
        self._seats -= self._replicas.pop(name).seats
        points = set(self._points(name))
        self._ring = [entry for entry in self._ring if entry[1] != name or entry[0] not in points]

    def report(self, name: str, load: Load) -> None:
        """What a replica says of itself; O(1)."""
        replica = self._replicas[name]
        before = replica.seats
        replica.load = load
        memory = self.rules.memory
        replica.others += memory * (max(0, load.sequences - replica.own) - replica.others)
        replica.others_tokens += memory * (max(0, load.queued_tokens - replica.own_tokens) - replica.others_tokens)
        self._seats += replica.seats - before

    def judge(self, name: str, pace: float) -> None:
        """`pace`: its time for a token, relative to the fleet's."""
        self._replicas[name].pace = pace

    def choose(self, wanted: Wanted, without: Collection[str] = ()) -> str | None:
        """The replica for a request, none of `without`; None if there is no other."""
        matched, knowing = self._matched(wanted), self._knowing(wanted.grammar)
        bound = self._bound()
        best: tuple[bool, float] | None = None
        chosen: str | None = None
        for replica in self._candidates(wanted, [*matched, *knowing], without):
            over = replica.seats + 1 > bound or replica.load.page_share > self.rules.full
            new_grammar = wanted.grammar is not None and replica.name not in knowing
            known = matched.get(replica.name, 0)
            cost = self._cost(replica, wanted.tokens - known, new_grammar=new_grammar)
            if known:
                cost += self.rules.jitter * _draw(wanted.name ^ replica.salt)
            if best is None or (over, cost) < best:  # among equals the first: its home
                best, chosen = (over, cost), replica.name
        return chosen

    def begin(self, name: str, wanted: Wanted) -> Placed:
        """The request is sent there."""
        replica = self._replicas[name]
        known = self.matched_tokens(name, wanted)
        replica.odometer += wanted.tokens - known
        self._note(replica, wanted.blocks, () if wanted.grammar is None else (wanted.grammar,))
        return Placed(self, replica, wanted.tokens - known)

    def learn(self, name: str, blocks: Sequence[int], grammars: Sequence[str]) -> None:
        """What a replica has met of late, whoever sent it; what this router sent is among it, and known."""
        replica = self._replicas[name]
        new = [block for block in blocks if block not in self._blocks or name not in self._blocks[block].at]
        replica.odometer += self.rules.block * len(new)
        self._note(replica, new, grammars)

    def _note(self, replica: _Replica, blocks: Sequence[int], grammars: Sequence[str]) -> None:
        for block in blocks:
            self._holders(self._blocks, block).note(replica, self.rules.holders)
        for grammar in grammars:
            self._holders(self._grammars, grammar).note(replica, self.rules.holders)
        _forget(self._blocks, self.rules.remembered)
        _forget(self._grammars, self.rules.remembered // 16)

    def count(self, replica: _Replica, sequences: int) -> None:
        """Of `Placed`: so many more are on a replica. One that has left is not counted any more."""
        if self._replicas.get(replica.name) is replica:
            self._seats += sequences

    def matched_tokens(self, name: str, wanted: Wanted) -> int:
        """How much of the prompt the replica is thought to have computed."""
        replica = self._replicas[name]
        for index in range(len(wanted.blocks) - 1, -1, -1):
            holders = self._blocks.get(wanted.blocks[index])
            if holders is not None and name in holders.at and self._is_there(replica, *holders.at[name]):
                return (index + 1) * self.rules.block
        return 0

    def _cost(self, replica: _Replica, tokens: int, *, new_grammar: bool) -> float:
        rules = self.rules
        cost = replica.behind + rules.seat * replica.seats + tokens + (rules.grammar if new_grammar else 0.0)
        return cost * replica.pace

    def _bound(self) -> float:
        """The most requests a replica may have, the one to be placed included."""
        rules = self.rules
        return (1 + rules.slack) * (self._seats + 1) / max(1, len(self._replicas)) + rules.spare

    def _matched(self, wanted: Wanted) -> dict[str, int]:
        """Tokens of the prompt that replicas have computed; the longest first, no more than are looked at."""
        found: dict[str, int] = {}
        for index in range(len(wanted.blocks) - 1, -1, -1):
            holders = self._blocks.get(wanted.blocks[index])
            if holders is None or holders.at.keys() <= found.keys():
                continue
            for name in self._still_there(holders):
                found.setdefault(name, (index + 1) * self.rules.block)
            if len(found) >= self.rules.candidates:
                break
        return found

    def _knowing(self, grammar: str | None) -> Collection[str]:
        """Replicas that have made the grammar's tables."""
        holders = None if grammar is None else self._grammars.get(grammar)
        return () if holders is None else self._still_there(holders)

    def _still_there(self, holders: _Holders) -> list[str]:
        """Those who have not begun a new life since, nor turned their cache over."""
        return [
            name
            for name, (life, odometer) in holders.at.items()
            if (replica := self._replicas.get(name)) is not None and self._is_there(replica, life, odometer)
        ]

    @staticmethod
    def _is_there(replica: _Replica, life: int, odometer: int) -> bool:
        return replica.life == life and replica.odometer - odometer <= replica.load.cache_tokens

    def _candidates(self, wanted: Wanted, knowing: Sequence[str], without: Collection[str]) -> Iterator[_Replica]:
        """Those worth a look: who knows the prompt or the grammar, then the ring from its home on, then anyone."""
        seen, few = set(without), self.rules.candidates
        for place in (knowing, self._around(_home(wanted), few), self._around(wanted.name, few)):
            for name in place:
                replica = self._replicas.get(name)
                if replica is not None and name not in seen:
                    seen.add(name)
                    yield replica
        if len(self._replicas) <= 4 * few or len(seen) == len(without):
            yield from (replica for name, replica in self._replicas.items() if name not in seen)

    def _around(self, point: int, most: int) -> Iterator[str]:
        """Distinct replicas from a place on the ring on."""
        start = bisect.bisect_left(self._ring, (point, ""))
        seen: set[str] = set()
        for step in range(len(self._ring)):
            name = self._ring[(start + step) % len(self._ring)][1]
            if name not in seen:
                seen.add(name)
                yield name
                if len(seen) == most:
                    return

    def _points(self, name: str) -> list[int]:
        return [_hash(f"{name}\0{index}".encode()) for index in range(self.rules.points)]

    def _holders(self, table: OrderedDict[_Key, _Holders], key: _Key) -> _Holders:
        if key not in table:
            table[key] = _Holders()
        table.move_to_end(key)
        return table[key]


def _home(wanted: Wanted) -> int:
    """Where a request belongs on the ring: by its prompt's beginning, else its grammar, else anywhere."""
    if wanted.blocks:
        return wanted.blocks[0]
    return wanted.name if wanted.grammar is None else _hash(wanted.grammar.encode())


def _forget(table: OrderedDict[_Key, _Holders], most: int) -> None:
    while len(table) > most:
        table.popitem(last=False)


def _draw(number: int) -> float:
    """Between 0 and 1, by Fibonacci hashing (Knuth, volume 3, 6.4)."""
    return (number * 0x9E3779B97F4A7C15 >> 40 & 0xFFFF) / 0x10000


def _hash(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
