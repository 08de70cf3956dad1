"""Pages: never lost, never held twice by accident, shared by content and tenant."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.pages import OutOfPages, PagePool, next_link, root_link


def filled(pool: PagePool, tenant: str, tokens: list[int]) -> list[int]:
    """Pages with these tokens, published as a sequence would."""
    size, link, pages = pool.page_size, root_link(tenant), []
    for start in range(0, len(tokens), size):
        page = pool.take()
        pages.append(page)
        content = tokens[start : start + size]
        pool.publish(page, link, content)
        link = next_link(link, content)
    return pages


def test_a_known_beginning_is_shared() -> None:
    pool = PagePool(8, 4)
    pages = filled(pool, "a", list(range(8)))
    match = pool.match("a", [*range(8), 99])
    assert match.pages == pages
    pool.check()


def test_at_least_one_token_is_left_to_compute() -> None:
    pool = PagePool(8, 4)
    pages = filled(pool, "a", list(range(8)))
    match = pool.match("a", list(range(8)))
    assert match.pages == pages[:1]
    assert (match.partial, match.copied) == (pages[1], 3)


def test_another_tenant_finds_nothing() -> None:
    pool = PagePool(8, 4)
    filled(pool, "a", list(range(8)))
    assert pool.match("b", [*range(8), 99]).pages == []


def test_content_of_released_pages_is_found_until_they_are_needed() -> None:
    pool = PagePool(2, 4)
    pages = filled(pool, "a", list(range(8)))
    pool.release_all(pages)
    assert pool.free == 2
    pool.take()
    assert pool.match("a", [*range(8), 99]).pages == pages[:1], "the end went first"
    pool.check()


def test_a_partial_page_is_offered_for_copying() -> None:
    pool = PagePool(4, 4)
    pages = filled(pool, "a", [1, 2, 3, 4, 5, 6])
    match = pool.match("a", [1, 2, 3, 4, 5, 7, 8])
    assert (match.pages, match.partial, match.copied) == (pages[:1], pages[1], 1)


def test_no_page_is_handed_out_when_all_are_held() -> None:
    pool = PagePool(1, 4)
    pool.take()
    with pytest.raises(OutOfPages):
        pool.take()


class PoolMachine(RuleBasedStateMachine):
    """Sequences come and go; the pool must agree with what they hold."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(6, 2)
        self.holders: list[list[int]] = []

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=8), tenant=st.sampled_from("ab"))
    def arrive(self, tokens: list[int], tenant: str) -> None:
        match = self.pool.match(tenant, tokens)
        pages = match.pages
        size, link = self.pool.page_size, root_link(tenant)
        for start in range(0, len(tokens), size):
            if start // size >= len(pages):
                if not self.pool.free:
                    break
                page = self.pool.take()
                pages.append(page)
                self.pool.publish(page, link, tokens[start : start + size])
            link = next_link(link, tokens[start : start + size])
        self.holders.append(pages)

    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        if self.holders:
            self.pool.release_all(self.holders.pop(which % len(self.holders)))

    @invariant()
    def books_balance(self) -> None:
        self.pool.check()
        assert self.pool.held == len({page for pages in self.holders for page in pages})


PoolMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestPool = PoolMachine.TestCase
