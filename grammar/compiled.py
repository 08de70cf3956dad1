"""A compiled constraint: what a matcher starts from, what explains it, and the plan that rebuilds it elsewhere.

The plan is the constraint itself with its options: tables grow lazily from it in whichever process uses it, so there
is nothing larger worth sending.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np

from grammar.automaton import Automaton
from grammar.closing import Closing
from grammar.lints import Lint
from grammar.matcher import Matcher
from grammar.sealed import seal, unseal
from grammar.sparse import SparseClosing

PLAN_VERSION: Final = 1
RELIEF_EVERY: Final = 8
"""To count what is kept costs a tenth of an average mask."""


class Plan(msgspec.Struct, frozen=True):
    """What crosses processes: plain values only."""

    kind: str
    source: str
    options: dict[str, Any]
    vocabulary: str
    version: int = PLAN_VERSION


@dataclass(frozen=True, slots=True)
class Commentary:
    """What can be told about a constraint, worked out when asked for."""

    notes: Callable[[], list[str]] = list
    """What is narrowed or not enforced."""
    keywords: Callable[[], list[dict[str, str]]] = list
    lints: Callable[[], list[Lint]] = list
    spelling: Sequence[str] = ()
    """What of JSON is never written."""


class Grammar:
    """One constraint over one vocabulary, shared by all its matchers."""

    def __init__(
        self,
        automaton: Automaton,
        start: int,
        plan: Plan,
        commentary: Commentary,
        again: Callable[[], tuple[Automaton, int]] | None = None,
    ) -> None:
        self._use(automaton, start)
        self._plan = plan
        self._commentary = commentary
        self._again = again
        self._new_steps = 0
        """Makes the automaton anew: what grew with the texts that were generated is then forgotten."""

    def _use(self, automaton: Automaton, start: int) -> None:
        self.automaton = automaton
        self.closing = (Closing if automaton.vocabulary.has_every_byte else SparseClosing)(automaton)
        self.initial = automaton.configuration(start, 0, 0)

    def matcher(self) -> Matcher:
        """A new position at the beginning. Over the limit on bytes, what was computed is dropped first (`relieve`)."""
        if self.relieve(self.automaton, self.closing):
            self._renew()
        return Matcher(self)

    def looks_for_room(self) -> bool:
        """Whether it is time to `relieve`, in a text under way: every few steps that were new."""
        self._new_steps = (self._new_steps + 1) % RELIEF_EVERY
        return not self._new_steps

    def relieve(self, automaton: Automaton, closing: Closing | SparseClosing) -> bool:
        """Drop masks and moves that are over the limit on bytes; whether the rest has outgrown half of it.

        Positions, rows of states and promises cannot be dropped, for matchers refer to them: where many texts have left
        them behind, the automaton is made anew, and matchers move there (`with_room`). What the texts under way need
        at the least is not held against it, however small the limit.
        """
        automaton.trim()
        closing.trim(automaton.max_bytes // 4)
        kept = automaton.kept_bytes + closing.kept_bytes
        return 2 * kept > automaton.max_bytes and kept > 2 * automaton.base_bytes and self._again is not None

    def with_room(self, automaton: Automaton) -> None:
        """Make the automaton anew, unless it is not this one any more: another matcher was the first to ask."""
        if self.automaton is automaton or self.relieve(self.automaton, self.closing):
            self._renew()

    def _renew(self) -> None:
        assert self._again is not None
        self._use(*self._again())
        self.automaton.tables.lift_limit()

    @property
    def least_budget(self) -> int:
        """The least budget at which generation can begin: the tokens of the plan from the start."""
        return self.closing.tokens(self.initial)

    @property
    def nbytes(self) -> int:
        """Memory of the tables and masks so far."""
        return self.automaton.nbytes + self.closing.nbytes

    @property
    def notes(self) -> list[str]:
        """What was treated as an annotation, and what else the author should know, a line each."""
        return [*self._commentary.notes(), *map(str, self.lints)]

    @cached_property
    def lints(self) -> list[Lint]:
        """What can never come, and what never ends: see grammar/lints.py."""
        return self._commentary.lints()

    def explain(self) -> dict[str, Any]:
        """The constraint in words and numbers."""
        return {
            "kind": self._plan.kind,
            "options": {k: v for k, v in self._plan.options.items() if k not in ("documents", "source")},
            "least_budget": self.least_budget,
            "states": self.automaton.tables.states,
            "bytes": self.nbytes,
            "keywords": self._commentary.keywords(),
            "lints": [{"pointer": lint.pointer, "message": lint.message} for lint in self.lints],
            "spelling": list(self._commentary.spelling),
            "notes": self.notes,
            "fingerprint": self.fingerprint,
        }

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the plan's content."""
        return hashlib.blake2b(self.to_bytes(), digest_size=16).hexdigest()

    def to_bytes(self) -> bytes:
        """The plan, encoded; `load_grammar` reads it."""
        return seal(b"plan", PLAN_VERSION, msgspec.msgpack.encode(self._plan))

    def warm(self) -> None:
        """Run every kernel once, so that none is compiled or loaded during a request."""
        matcher = self.matcher()
        row = np.zeros(self.automaton.vocabulary.words, np.int32)
        matcher.fill_mask(row)
        matcher.fill_mask(row, self.least_budget)
        matcher.forced_bytes()


def decode_plan(data: bytes) -> Plan:
    """Read what `to_bytes` wrote."""
    return msgspec.msgpack.decode(unseal(b"plan", PLAN_VERSION, data), type=Plan)
