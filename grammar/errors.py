"""What can go wrong with a constraint, told so that its author can mend it.

    GrammarError                   the constraint itself is malformed
    ├── UnsupportedConstraint      well-formed, but cannot be enforced exactly, and nothing is ignored silently
    ├── UnsatisfiableConstraint    well-formed, but no text satisfies it, or this vocabulary cannot spell one
    └── GrammarTooLarge            it would exceed a stated limit of time, memory, depth or repeats

Ignorant of HTTP: `service/errors.py` maps these classes to statuses.
"""


class GrammarError(ValueError):
    """A constraint that cannot be compiled: where (JSON Pointer), which keyword, and why."""

    def __init__(
        self, message: str, *, pointer: str = "", keyword: str | None = None, reason: str | None = None
    ) -> None:
        where = f" (at {pointer or '#'}" + (f", keyword {keyword!r})" if keyword else ")")
        super().__init__(message + where)
        self.message = message
        self.pointer = pointer
        self.keyword = keyword
        self.reason = reason if reason is not None else message


class UnsupportedConstraint(GrammarError):
    """A keyword or pattern that is understood but cannot be enforced exactly."""


class UnsatisfiableConstraint(GrammarError):
    """Nothing satisfies this constraint, or nothing that this vocabulary can spell."""


class GrammarTooLarge(GrammarError):
    """A stated limit (time, bytes, depth, repeats) would be exceeded."""
