"""The grammars in use, under a limit of bytes, and one request's position in one of them.

What it is for: plans come over the wire and are loaded once; matchers begin from them; whole grammars that no request
uses are evicted, least recently used first. What may not enter: how a grammar is compiled, sampling, the wire.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.errors import BudgetTooSmall, UnknownGrammar
from engine.messages import Plan
from engine.speculation import Rates
from grammar import Grammar, Mask, Matcher


class GrammarStore:
    """Loaded grammars by fingerprint. `load` turns a plan's bytes into a grammar over the engine's vocabulary."""

    def __init__(self, load: Callable[[bytes], Grammar], max_bytes: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()  # least recently used first
        self._users: dict[str, int] = {}
        self._rates: dict[str, Rates] = {}

    def __len__(self) -> int:
        return len(self._grammars)

    @property
    def nbytes(self) -> int:
        """All loaded grammars, with the tables that have grown from them."""
        return sum(grammar.nbytes for grammar in self._grammars.values())

    def add(self, plan: Plan) -> None:
        """Loads a plan. Raises what the grammar's loader raises: the plan is not one."""
        if plan.fingerprint in self._grammars:
            self._grammars.move_to_end(plan.fingerprint)
            return
        self._grammars[plan.fingerprint] = self._load(plan.data)
        self.evict()

    def open(self, fingerprint: str) -> Matcher:
        """A matcher at the beginning; the grammar stays until `close`. Raises UnknownGrammar."""
        grammar = self._grammars.get(fingerprint)
        if grammar is None:
            raise UnknownGrammar(f"no plan was given for grammar {fingerprint}, or it was evicted")
        self._grammars.move_to_end(fingerprint)
        self._users[fingerprint] = self._users.get(fingerprint, 0) + 1
        return grammar.matcher()

    def rates(self, fingerprint: str, parent: Rates) -> Rates:
        """How often guesses under this grammar come true; a new one leans on `parent`."""
        if fingerprint not in self._grammars:
            return parent
        return self._rates.setdefault(fingerprint, Rates(parent))

    def close(self, fingerprint: str) -> None:
        """The matcher of one `open` is no longer used."""
        self._users[fingerprint] -= 1
        if not self._users[fingerprint]:
            del self._users[fingerprint]

    def evict(self) -> None:
        """Drops unused grammars, oldest first and the newest never, until the rest fits. Tables grow: call it again."""
        newest = next(reversed(self._grammars), None)
        total = self.nbytes
        for fingerprint in [name for name in self._grammars if name not in self._users and name != newest]:
            if total <= self._max_bytes:
                return
            total -= self._grammars.pop(fingerprint).nbytes
            self._rates.pop(fingerprint, None)


class Constraint:
    """One request's position in its grammar, with its token budget."""

    def __init__(self, matcher: Matcher, budget: int) -> None:
        if matcher.tokens_to_finish > budget:
            raise BudgetTooSmall(
                f"max_tokens leaves {budget} tokens, but the shortest text that the grammar accepts may need "
                f"{matcher.tokens_to_finish}"
            )
        self.matcher = matcher
        self.budget = budget  # tokens still to be emitted, end tokens excluded
        self.closed_by_budget = False

    def shared(self, ahead: int) -> Mask | None:
        """The mask of the position `ahead` tokens behind the last certain one (where the matcher stands), if it is one
        that others have too: the budget excludes nothing. None: ask `fill`."""
        found: Mask | None = self.matcher.shared_mask(self.budget - ahead)
        return found

    def fill(self, alone: NDArray[np.int32], drawn_from: NDArray[np.int32], ahead: int) -> bool:
        """The masks of that position.

        `drawn_from` becomes what may be drawn. True iff the budget excluded something; then `alone` becomes what the
        grammar alone allows, else it is left as it is.
        """
        limited: bool = self.matcher.fill_mask(drawn_from, self.budget - ahead)
        if limited:
            self.matcher.fill_mask(alone)
        return limited

    def hurry(self) -> None:
        """A stop string matched: from here on only what the shortest ending needs."""
        self.budget = min(self.budget, self.matcher.tokens_to_finish)
