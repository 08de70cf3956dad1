"""Names that are remembered, and those that make room."""

from __future__ import annotations

from engine.recent import Recent


def test_the_one_not_asked_for_longest_makes_room() -> None:
    names = Recent(most=3)
    for name in "abc":
        names.add(name)
    assert "a" in names
    names.add("d")
    assert [name in names for name in "abcd"] == [True, False, True, True]
    names.discard("a")
    names.discard("z")
    assert len(names) == 2


def test_however_many_clients_name_few_are_kept() -> None:
    names = Recent()
    for index in range(50_000):
        names.add(str(index))
    assert len(names) == 1 << 14
    assert "49999" in names
