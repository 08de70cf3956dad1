"""Where the replicas are: known while they say so, and not known at first."""

from __future__ import annotations

from service.cluster.directory import ANNOUNCE_S, Directory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_new_directory_does_not_say_that_there_is_nobody() -> None:
    """Else its restart would take every replica away."""
    clock = Clock()
    directory = Directory("v", clock)
    assert directory.members() is None
    clock.now += 3 * ANNOUNCE_S
    assert directory.members() == []


def test_replicas_are_listed_while_they_announce_themselves() -> None:
    clock = Clock()
    directory = Directory("v", clock)
    for _ in range(20):
        directory.announce("a", "tcp://x:1", "key")
        clock.now += ANNOUNCE_S
        assert directory.members() == [("a", "tcp://x:1", "key")]
    clock.now += 10 * ANNOUNCE_S
    assert directory.members() == []


def test_who_retracts_is_not_listed() -> None:
    directory = Directory("v", Clock())
    directory.announce("a", "tcp://x:1", "key")
    directory.announce("b", "tcp://x:2", "key")
    directory.retract("a")
    directory.retract("a")
    assert directory.members() == [("b", "tcp://x:2", "key")]


def test_it_knows_with_what_it_was_deployed() -> None:
    assert Directory("v").deployed() == "v"
