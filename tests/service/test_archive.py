"""Responses that are kept: a bound on all of them, and fair between keys."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from service.archive import Archive, Entry

LIMIT = 10_000
STEPS = st.tuples(
    st.sampled_from(["put", "find", "drop"]), st.sampled_from("ab"), st.integers(0, 9), st.integers(600, 4000)
)


def entry(size: int) -> Entry:
    """An entry of so many bytes, its own overhead included."""
    return Entry(b"x" * (size - Entry(b"", b"").nbytes), b"")


@given(steps=st.lists(STEPS, max_size=60))
def test_what_is_kept_fits_and_is_what_was_put_last(steps: list[tuple[str, str, int, int]]) -> None:
    archive, put = Archive(LIMIT), dict[tuple[str, str], Entry]()
    for action, tenant, number, size in steps:
        place = (tenant, str(number))
        if action == "put":
            put[place] = entry(size)
            kept = archive.put(*place, put[place])
            assert kept is (archive.find(*place) is not None)
        elif action == "find":
            assert archive.find(*place) in {put.get(place), None}
        else:
            archive.drop(*place)
            assert archive.find(*place) is None
        found = [archive.find(*each) for each in put]
        assert archive.nbytes == sum(each.nbytes for each in found if each is not None) <= LIMIT


def test_the_entry_that_was_not_used_for_longest_goes_first() -> None:
    archive = Archive(3000)
    for name in ("first", "second", "third"):
        archive.put("", name, entry(1000))
    archive.find("", "first")
    archive.put("", "fourth", entry(1000))
    assert [archive.find("", name) is not None for name in ("first", "second", "third")] == [True, False, True]


def test_a_key_cannot_push_out_what_another_keeps_by_keeping_more() -> None:
    archive = Archive(10_000)
    archive.put("small", "one", entry(2000))
    for number in range(50):
        archive.put("large", str(number), entry(1000))
    assert archive.find("small", "one") is not None
    assert archive.nbytes <= 10_000


def test_what_is_larger_than_all_that_may_be_kept_is_not_kept() -> None:
    archive = Archive(1000)
    assert not archive.put("", "one", entry(1001))
    assert archive.nbytes == 0
    assert not Archive(0).keeps
