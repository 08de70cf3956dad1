"""Masks are handed to another thread only while they take long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.mask_helper import MaskHelper


def filling(seconds: float) -> Callable[[], bool]:
    """Computes for so long; says whether another thread than the caller's did it."""
    caller = threading.get_ident()

    def fill() -> bool:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return threading.get_ident() != caller

    return fill


def test_long_ones_are_handed_over_and_short_ones_no_longer() -> None:
    with ThreadPoolExecutor(1) as thread:
        helper = MaskHelper(thread, worth_s=0.005)
        assert not helper.begin(filling(0.0))()
        assert not helper.begin(filling(0.05))(), "nobody knew"
        assert helper.begin(filling(0.05))()
        late = [helper.begin(filling(0.0))() for _ in range(40)]
        assert late[0]
        assert not late[-1]


def test_what_is_not_handed_over_waits_until_it_is_asked_for() -> None:
    filled = list[int]()
    with ThreadPoolExecutor(1) as thread:
        wait = MaskHelper(thread).begin(lambda: filled.append(1))
        assert not filled
        wait()
        assert filled == [1]


@pytest.mark.parametrize("worth_s", [0.0, 1.0])
def test_what_goes_wrong_in_it_reaches_the_one_who_waits(worth_s: float) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with ThreadPoolExecutor(1) as thread:
        wait = MaskHelper(thread, worth_s).begin(fail)
        with pytest.raises(ZeroDivisionError):
            wait()
