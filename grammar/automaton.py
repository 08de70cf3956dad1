"""The automaton of one constraint over one vocabulary, in layers: states, masks, where they lead, moves; its limits.

What plans and places need to know of a constraint is asked here, and answered by the subclass of its kind.
"""

from grammar.moves import Moves
from grammar.tables import DEAD


class Automaton(Moves):
    """Subclasses say what fills a state and what follows a return, and know how an open frame can be finished."""

    def finish(self, state: int, register: int, stack: int) -> tuple[int, bytes]:
        """A completion of the top frame: the label it then returns, and its bytes (the closing one included)."""
        raise NotImplementedError

    def owes_others(self, state: int) -> bool:  # noqa: ARG002  (nothing is remembered here)
        """Whether the frame of this state still owes keys or items that must differ from those that came."""
        return False

    may_owe_others: bool = False
    """Whether frames can come that owe others so: what their plans cost then depends on what came."""

    def returned_at_worst(self, parent: int, label: int) -> int:
        """As `returned`, for plans: what came may be just what they would have written next."""
        return self.returned(parent, label)

    def bounds(self, state: int, parent: int | None) -> dict[int, int] | None:  # noqa: ARG002  (no bound is an answer)
        """For each label that the frame of `state` may return: the most bytes until then, in any state that a string
        automaton of this first state can be in. None: not known. `parent`: the state it returns to, for keys."""
        return None

    def bounds_above(self, ways: dict[int, int], parent: int) -> dict[int, int] | None:
        """What `bounds` says of the frame of `parent`, which gets one of these labels after so many bytes."""
        found: dict[int, int] = {}
        for label, size in ways.items():
            target = self.returned(parent, label)
            onward = {} if target == DEAD else self.bounds(target, None)
            if onward is None:
                return None
            for outer, more in onward.items():
                found[outer] = max(size + more, found.get(outer, 0))
        return found

    def open_value(self, configuration: int, text: bytes) -> bytes:  # noqa: ARG002  (nothing is remembered here)
        """What was read so far of an open key or item that later ones must differ from; empty where none must."""
        return b""

    def pointer(self, configuration: int, text: bytes) -> str:
        """The JSON Pointer, in the instance, of the value that the next token belongs to."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Memory of tables and masks, roughly."""
        rows = len(self._rows) * (self.vocabulary.words * 4 + 300)
        moves = 100 * self._moves_known + 250 * len(self._key_moves) + 150 * len(self._forced)
        return self.kept_bytes + rows + moves + len(self._shared) * 300

    @property
    def kept_bytes(self) -> int:
        """The part of it that `trim` does not drop: rows of states, stacks and positions, which matchers refer to."""
        return self.tables.nbytes + len(self.configurations) * 450

    def trim(self) -> None:
        """Drop masks and remembered moves when over the limit: they are computed again when asked for."""
        if self.nbytes <= self.max_bytes:
            return
        self._masks = [None] * len(self._masks)
        self.moves = [{} for _ in self.moves]
        self._key_moves.clear()
        self._forced.clear()
        self._moves_known = 0
        self._shared.clear()
        self._views.clear()
        self._rows.clear()
