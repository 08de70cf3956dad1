"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import logging
import signal

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux kills this process when its parent ends; elsewhere a loop must see that its parent has changed."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        logger.info("no prctl here: the end of the parent is noticed between steps")
