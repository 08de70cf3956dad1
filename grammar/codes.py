"""What a step says, and what labels tell: numbers that compiled loops and their callers share."""

from typing import Final

OK: Final = 0
STUCK: Final = 1
"""The byte cannot come."""
UNFILLED: Final = 2
"""A state's row is missing."""
NO_RETURN: Final = 3
"""What follows a return is missing."""
FULL: Final = 4
"""There is no room for another stack node."""
RECORDED: Final = 5
"""The step was taken, and closed a key or an item that later ones must differ from."""

RECORDED_LABEL: Final = 1 << 24
"""Labels from here on tell the parent that the key's text matters."""

CONTENT: Final = b"-0123456789tfn"
"""What numbers, true, false and null begin with: after an item whose value matters, a token may not go on into one."""

IMPOSSIBLE: Final = 1 << 30
"""From here on, a number of characters that no text makes up for."""
