"""Plain text on the automaton: one machine from first to last byte (regex, choices), nothing pushed."""

# ruff: noqa: ARG002  (it answers questions that only structured text poses)
import numpy as np
import numpy.typing as npt

from grammar.automaton import Automaton
from grammar.errors import UnsatisfiableConstraint
from grammar.frames.languages import Machine, overlay
from grammar.json_completions import Route, alphabet
from grammar.lexical.graphs import farthest
from grammar.lexical.regex import compile_regex
from grammar.places import PlaceKind
from grammar.tables import CLASSMAP, DEAD, OFFSET
from grammar.vocabulary import Vocabulary


class TextAutomaton(Automaton):
    """The automaton of one regular language over whole texts."""

    def __init__(self, vocabulary: Vocabulary, machine: Machine, *, kind: PlaceKind, max_bytes: int) -> None:
        super().__init__(vocabulary, max_blanks=0, max_bytes=max_bytes)
        if machine.is_empty:
            raise UnsatisfiableConstraint("no text satisfies this constraint")
        self._machine = machine
        self._kind = kind
        self._route_found: Route | None = None
        self._farthest: npt.NDArray[np.int64] | None = None
        self.is_finite = True
        """Whether there is a longest text."""
        self.start = self._block(machine)

    @classmethod
    def of_regex(cls, vocabulary: Vocabulary, regex: str, *, max_bytes: int) -> "TextAutomaton":
        """The texts that a regular expression matches in full."""
        dfa = compile_regex(regex)
        machine = Machine(dfa.classes, dfa.table, np.where(dfa.accepting, 0, -1).astype(np.int32))
        found = cls(vocabulary, machine, kind=PlaceKind.FREE, max_bytes=max_bytes)
        found.is_finite = dfa.is_finite
        return found

    @classmethod
    def of_choices(cls, vocabulary: Vocabulary, choices: list[str], *, max_bytes: int) -> "TextAutomaton":
        """Exactly these texts."""
        machine = overlay(None, {c.encode(): 0 for c in choices})
        return cls(vocabulary, machine, kind=PlaceKind.ENUM, max_bytes=max_bytes)

    def _block(self, machine: Machine) -> int:
        """As `machine_block`, but every byte is the machine's: only the end of the text ends it."""
        tables = self.tables
        states = len(machine.labels)
        base = tables.add_states(states)
        self._keys.extend([("text", base)] * states)
        cells = np.where(machine.table >= 0, machine.table + base, DEAD).astype(np.int32)
        offset = tables.add_cells(cells.reshape(-1))
        classmap = np.zeros(290, np.uint8)
        classmap[:256] = machine.classes
        ends = (base, base + states)
        tables.part(OFFSET, *ends)[:] = offset + 1 + np.arange(states, dtype=np.int32) * cells.shape[1]
        tables.part(CLASSMAP, *ends)[:] = tables.add_map(classmap)
        self._base = base
        return base

    def is_accepting(self, state: int, register: int, stack: int) -> bool:
        """Whether the text may end in this configuration."""
        return state == self.done or bool(self._machine.labels[state - self._base] >= 0)

    def finish(self, state: int, register: int, stack: int) -> tuple[int, bytes]:
        """The shortest completion."""
        return self._route.from_state(state - self._base)

    @property
    def _route(self) -> Route:
        if self._route_found is None:
            self._route_found = Route(self._machine, alphabet(self.vocabulary.lacking_bytes, string=False))
        return self._route_found

    def stations_of(self, configuration: int) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """Its own place stands for all that tokens lead to: `bounds` looks ahead from there, and needs no walk."""
        state, _, stack = self.configurations[configuration]
        return [(state, stack, [])]

    def bounds(self, state: int, parent: int | None) -> dict[int, int]:
        """The most bytes that the plan of any state takes to which this one leads."""
        if self._farthest is None:
            self._farthest = self._route.distance.copy()
            farthest(self._machine.table, self._farthest)
        return {0: int(self._farthest[state - self._base])}

    def returned(self, parent: int, label: int) -> int:
        """The text has one frame: its end is the end."""
        return self.done

    def place_kind(self, configuration: int) -> PlaceKind:
        """Free text or a choice."""
        return self._kind

    def pointer(self, configuration: int, text: bytes) -> str:
        """There is no structure to point into."""
        return ""
