"""engine.speculation.worth: a proposer that takes time is asked while it saves more."""

from __future__ import annotations

from engine.speculation.worth import Worth


def asked(worth: Worth, cost_s: float, accepted: int, steps: int) -> int:
    """In how many of so many steps it is asked, if each time it costs and brings so much; a token costs a second."""
    count = came_true = 0
    for _ in range(steps):
        if worth.should_ask(came_true, 1.0):
            count += 1
            worth.asked(cost_s, came_true)
            came_true += accepted
    worth.should_ask(came_true, 1.0)
    return count


def test_what_pays_is_always_asked() -> None:
    assert asked(Worth(), 0.5, 1, 200) == 200


def test_what_does_not_pay_is_asked_now_and_then_and_can_win_its_place_back() -> None:
    worth = Worth()
    asked(worth, 2.0, 1, 100)
    assert 2 <= asked(worth, 2.0, 1, 240) <= 15
    asked(worth, 0.1, 4, 2000)
    assert asked(worth, 0.1, 4, 100) == 100
