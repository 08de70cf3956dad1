"""One request's guesses: a chain of tokens, each from whoever knows best, with the chance that it stands.

What it is for: `Speculator` puts the chain together, and learns from what became of it. What may not enter: pages,
other requests, how many guesses a step has room for.

The idea: one chain crosses from one proposer to the next. Behind a forced key the prompt is looked up, where the copied
value leaves the grammar's way it is cut, behind its end text is forced again. Each guess has a kind, and each kind a
learned rate; a guess stands only if all before it do, so chances multiply, and the chain ends where they are too small
to be worth a position on any machine.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.messages import Guessed
from engine.speculation.endings import Endings
from engine.speculation.forced import ForcedText
from engine.speculation.lookup import I32, LONGEST, TextIndex
from engine.speculation.rates import Kind, Rates, Source
from grammar import Matcher

_LEAST = 0.02  # no machine verifies a position for so little
_SURE = (0.3, 0.6, 0.9)  # borders between kinds of guesses that come with a chance of their own
_DECIDED = 1.0  # no learned chance is that high
_PROBE_EVERY = 32  # steps without a verified guess before one is verified whatever its chance


Foreseen = Sequence[Sequence[tuple[int, float]]]  # of each position ahead the likeliest tokens and their chances


class Guess(NamedTuple):
    """A token that may follow. `chance`: that it and all guesses before it are drawn.

    Where a value is copied, what might be drawn instead is its end: `rival` is the kind of that guess, `closers` the
    bytes that it would begin with.
    """

    token: int
    kind: Kind
    chance: float
    rival: Kind | None = None
    closers: bytes = b""

    @property
    def source(self) -> Source:
        return self.kind[0]


@dataclass(frozen=True, slots=True)
class Drafter:
    """What all requests of an engine share. `most`: guesses in one chain; a proposer that is None is off."""

    most: int
    ends: frozenset[int]  # end tokens are never guessed: behind them nothing follows
    forced: ForcedText | None = None
    endings: Endings | None = None
    folded: I32 | None = None  # as `lookup.without_blank` makes it; None: no lookup
    rates: Rates = field(default_factory=Rates)
    came_true: Counter[Source] = field(default_factory=Counter)

    def speculator(self, rates: Rates | None = None) -> Speculator:
        """For one request; `rates`: of its grammar."""
        return Speculator(self, Rates(rates or self.rates))


@dataclass(slots=True)
class Tally:
    """What one proposer's guesses came to."""

    proposed: int = 0
    accepted: int = 0


class Speculator:
    """Changed by the loop only. Stands behind the certain tokens, as the request's matcher does."""

    def __init__(self, drafter: Drafter, rates: Rates) -> None:
        self._drafter = drafter
        self._rates = rates
        self._index = None if drafter.folded is None else TextIndex(drafter.folded)
        self._idle = 0
        self._foreseen: Foreseen = []
        self.guesses: list[Guess] = []
        self.tallies: dict[Source, Tally] = {}

    def guess(self, text: Sequence[int], matcher: Matcher | None, most: int, decided: Sequence[int] = ()) -> None:
        """Sets `guesses`: at most `most` behind `text`, all certain tokens; the matcher is as before.

        `decided`: tokens that come next whatever the model says.
        """
        self.guesses = []
        most = min(most, self._drafter.most)
        if most <= 0:
            return
        if self._index is not None:
            self._index.extend(text[len(self._index) :])
        try:
            for token in decided[:most]:
                self._append(Guess(token, (Source.GRAMMAR, 0), _DECIDED), matcher)
            while self._extend(matcher, most):
                pass
        finally:
            self._foreseen = []
            if matcher is not None:
                matcher.rollback(len(self.guesses))

    def chance(self, kind: Kind) -> float:
        """That a guess of this kind comes true, if those before it do."""
        return self._rates.chance(kind)

    def replace(self, tokens: Sequence[int]) -> None:
        """Another model's draft takes the place of the guesses."""
        self.guesses = []
        for place, token in enumerate(tokens[: self._drafter.most]):
            kind = (Source.MODEL, place)
            if not self._append(Guess(token, kind, self._chance * self._rates.chance(kind)), None):
                return

    def foresee(self, positions: Foreseen) -> None:
        """What heads say of the tokens behind the certain ones; for the next `guess`."""
        self._foreseen = positions

    def _extend(self, matcher: Matcher | None, most: int) -> bool:
        """Adds what one proposer says next, as far as it goes; False at the chain's end."""
        before = len(self.guesses)
        if matcher is not None and (forced := self._forced(matcher)):
            self._add([(token, (Source.GRAMMAR, 0)) for token in forced[: most - before]], matcher)
            return before < len(self.guesses) < most
        looked_up, head = self._looked_up(most - before), self._of_heads(matcher)
        if head is not None and (not looked_up or self._rates.chance(head[1]) > self._rates.chance(looked_up[0][1])):
            self._add([head], matcher)
        elif matcher is None:
            self._add(looked_up, None)
        else:
            self._copy(looked_up, matcher, most)
        return before < len(self.guesses) < most

    def _add(self, run: Sequence[tuple[int, Kind]], matcher: Matcher | None) -> None:
        for token, kind in run:
            if not self._append(Guess(token, kind, self._chance * self._rates.chance(kind)), matcher):
                return

    def _copy(self, run: Sequence[tuple[int, Kind]], matcher: Matcher, most: int) -> None:
        """Adds a looked-up run up to where its value ends, and the end."""
        for token, kind in run:
            closers = b"" if self._drafter.endings is None else self._drafter.endings.closers(matcher)
            rate, rival = self._rates.chance(kind), None
            if closers and self._drafter.endings is not None:
                rival = self._drafter.endings.kind(token)
                ending = self._rates.chance(rival)
                if ending > min(rate, 0.5):
                    tokens = self._drafter.endings.after(matcher, closers)[: most - len(self.guesses)]
                    if tokens:
                        self._add(
                            [(each, (Source.GRAMMAR, 0) if at else rival) for at, each in enumerate(tokens)], matcher
                        )
                        return
                rate = min(rate, 1.0 - ending)
            if not self._append(Guess(token, kind, self._chance * rate, rival, closers), matcher):
                return
            if self._forced(matcher):
                return

    @property
    def _chance(self) -> float:
        return self.guesses[-1].chance if self.guesses else 1.0

    def _append(self, guess: Guess, matcher: Matcher | None) -> bool:
        """Adds a guess unless it is too unlikely or illegal; the matcher takes it."""
        if guess.chance < _LEAST or guess.token in self._drafter.ends:
            return False
        if matcher is not None and not matcher.advance(guess.token):
            return False
        self.guesses.append(guess)
        return True

    def _forced(self, matcher: Matcher) -> list[int]:
        return [] if self._drafter.forced is None else self._drafter.forced.after(matcher)

    def _of_heads(self, matcher: Matcher | None) -> tuple[int, Kind] | None:
        """The likeliest legal token that a head says for the next place of the chain."""
        place = len(self.guesses)
        for token, chance in self._foreseen[place] if place < len(self._foreseen) else ():
            if matcher is not None:
                if not matcher.advance(token):
                    continue
                matcher.rollback(1)
            return token, (Source.HEADS, len(_SURE) * place + place + bisect(_SURE, chance))
        return None

    def _looked_up(self, most: int) -> list[tuple[int, Kind]]:
        if self._index is None:
            return []
        match = self._index.find([guess.token for guess in self.guesses[-LONGEST:]])
        if match is None:
            return []
        following = self._index.following(match, most)
        return [(token, (Source.NGRAM, min(match.length + j, LONGEST))) for j, token in enumerate(following)]

    def is_due(self) -> bool:
        """Whether a guess should be verified whatever its chance: else what once failed would never be tried again."""
        return self._idle >= _PROBE_EVERY

    def take(self, count: int) -> list[int]:
        """The tokens of the first `count` guesses: they will be verified, the others are dropped."""
        self._idle = 0 if count else self._idle + bool(self.guesses)
        del self.guesses[count:]
        return [guess.token for guess in self.guesses]

    def report(self) -> list[Guessed]:
        """What came of all guesses so far."""
        return [Guessed(source, each.proposed, each.accepted) for source, each in self.tallies.items()]

    def learn(self, drawn: Sequence[int], verified: int) -> None:
        """The first `verified` guesses were in the pass, and these tokens were drawn."""
        for index, guess in enumerate(self.guesses[:verified]):
            if guess.chance == _DECIDED:
                continue
            tally = self.tallies.setdefault(guess.source, Tally())
            tally.proposed += 1
            if index < len(drawn):
                came_true = drawn[index] == guess.token
                tally.accepted += came_true
                self._drafter.came_true[guess.source] += came_true
                self._rates.learn(guess.kind, came_true=came_true)
                if guess.rival is not None and self._drafter.endings is not None:
                    self._rates.learn(guess.rival, came_true=self._drafter.endings.ends(guess.closers, drawn[index]))
        self.guesses = []
