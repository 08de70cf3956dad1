"""A text under way, read again in an automaton that has room: a few tokens at each step, so that no step waits for all.

Until it is there, the matcher goes on where it is. Nothing here is shared: one matcher, one reading.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from grammar.automaton import Automaton
    from grammar.compiled import Grammar

AT_A_STEP: Final = 8
"""Tokens that are read again at each new step: while a text is read, what it leaves grows by an eighth at most."""


Step = tuple[int, int, int, bool]
"""The position before a token: its configuration, the bytes so far, the tokens of the value, whether it had ended."""


class Resettling:
    """The configurations that the first tokens of a text lead to in `automaton`."""

    __slots__ = ("automaton", "closing", "configurations")

    def __init__(self, grammar: "Grammar") -> None:
        self.automaton: Automaton = grammar.automaton
        self.closing = grammar.closing
        self.configurations = [grammar.initial]

    def read(self, text: bytearray, history: list[Step]) -> bool | None:
        """Read a few more of the tokens of `history`, each of which has its start in `text`; whether all are read.

        None: the text cannot come there.
        """
        found = self.configurations
        begun = [start for _, start, _, _ in history[len(found) - 1 : len(found) + AT_A_STEP]]
        stops = [*begun[1:], len(text)] if len(begun) <= AT_A_STEP else begun[1:]
        for start, stop in zip(begun, stops, strict=False):
            moved = self.automaton.run(found[-1], bytes(text[start:stop]), text[:start])
            if moved is None:
                return None
            found.append(moved[0])
        return len(found) > len(history)

    def take_back(self, length: int) -> None:
        """Forget what was read beyond the first `length` tokens: others may come there."""
        del self.configurations[length + 1 :]

    def copy(self) -> "Resettling":
        """An independent reading that has come as far."""
        other = object.__new__(Resettling)
        other.automaton, other.closing = self.automaton, self.closing
        other.configurations = list(self.configurations)
        return other
