"""How much a constraint may cost before it is refused: counted work, never the clock, so that refusals repeat."""

from dataclasses import dataclass, field

from grammar.errors import GrammarTooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one compilation; a limit met raises GrammarTooLarge."""

    max_states: int = 20_000
    max_repeats: int = 20_000
    """How many copies of its body one counted repeat may be unrolled to."""
    max_work: int = 2_000_000
    """Work units: one is about a microsecond of Python."""


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class Meter:
    """The work spent so far on one compilation."""

    limits: Limits = DEFAULT_LIMITS
    what: str = "this constraint"
    spent: int = field(default=0)

    def spend(self, units: int) -> None:
        """Count `units` of work, or refuse."""
        self.spent += units
        if self.spent > self.limits.max_work:
            raise GrammarTooLarge(f"{self.what} needs more than {self.limits.max_work} units of work to compile")

    def check_states(self, states: int) -> None:
        """Refuse an automaton of more than `max_states` states."""
        if states > self.limits.max_states:
            raise GrammarTooLarge(f"{self.what} needs an automaton of more than {self.limits.max_states} states")
