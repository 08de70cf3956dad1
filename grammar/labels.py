"""Verdicts as small integers: what a finished value tells its parent about the formulas that the parent tracks."""


class Labels:
    """Interned tuples of truth values; the empty tuple, which most values return, is 0."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bool, ...], int] = {(): 0}
        self._verdicts: list[tuple[bool, ...]] = [()]

    def number(self, verdict: tuple[bool, ...]) -> int:
        """The label of a verdict."""
        found = self._numbers.get(verdict)
        if found is None:
            found = self._numbers[verdict] = len(self._verdicts)
            self._verdicts.append(verdict)
        return found

    def verdict(self, number: int) -> tuple[bool, ...]:
        """The verdict of a label."""
        return self._verdicts[number]
