"""Who holds which page of the KV cache.

What it is for: handing out pages, sharing those whose content is known, and taking them back. Pure bookkeeping: the
tensors are the runner's. What may not enter: torch, requests, scheduling policy.

The idea: a page is *held* (one or more sequences count on it), *cached* (nobody holds it, but its content is known
and may be shared again) or *blank*. Blank pages go out first, then cached ones, least recently used first. Content is
named by a chain of hashes that begins with the tenant's salt, so a page is found only by who has sent all that stands
before it, and one tenant's timing says nothing of another's prompts. Under each chain link hang the pages that may
follow it, filled wholly or in part; a partial match is shared by copying the page (copy-on-write happens at once, for
whoever asks is about to write behind the match).

Invariant: held + cached + blank = all pages, after every call.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

Link = bytes  # names all tokens up to a page border, salted

_LINK_BYTES = 16
_MOST_BRANCHES = 16  # partial matches looked at under one link; older ones are still found if they match whole pages


class OutOfPages(Exception):
    """No page is blank or cached: something must be preempted."""


@dataclass(slots=True)
class _Content:
    """What a page holds: `tokens` behind everything that `parent` names."""

    parent: Link
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """The longest known beginning: whole pages (now held for the caller), perhaps one to copy `copied` tokens of."""

    pages: list[int]
    link: Link
    partial: int | None = None
    copied: int = 0


def root_link(salt: str) -> Link:
    """Where a tenant's chains begin."""
    return hashlib.blake2b(salt.encode(), digest_size=_LINK_BYTES, person=b"formwork-pages").digest()


def next_link(parent: Link, tokens: Sequence[int]) -> Link:
    """The name of everything up to the end of a full page."""
    return hashlib.blake2b(array("q", tokens).tobytes(), digest_size=_LINK_BYTES, key=parent).digest()


class PagePool:
    """Pages 0 … count − 1 of `page_size` tokens each."""

    def __init__(self, count: int, page_size: int) -> None:
        self.count = count
        self.page_size = page_size
        self._blank = list(range(count - 1, -1, -1))
        self._holders = [0] * count
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._content: dict[int, _Content] = {}
        self._whole: dict[Link, int] = {}  # link after the page → page
        self._branches: dict[Link, OrderedDict[int, None]] = {}  # link before the page → pages, newest last

    @property
    def free(self) -> int:
        """Pages that `take` can still hand out."""
        return len(self._blank) + len(self._cached)

    @property
    def held(self) -> int:
        return self.count - self.free

    def needed(self, length: int) -> int:
        """Pages that hold so many tokens."""
        return -(-length // self.page_size)

    def take(self) -> int:
        """A page for one holder, content unknown. Raises OutOfPages."""
        if self._blank:
            page = self._blank.pop()
        elif self._cached:
            page, _ = self._cached.popitem(last=False)
            self._forget(page)
        else:
            raise OutOfPages
        self._holders[page] = 1
        return page

    def hold(self, page: int) -> None:
        """One more holder of a page that is held or cached."""
        if self._holders[page] == 0:
            del self._cached[page]
        self._holders[page] += 1

    def release(self, page: int) -> None:
        """One holder less; the last one leaves the page cached if its content is known."""
        assert self._holders[page] > 0, f"page {page} released more often than held"
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if page in self._content:
            self._cached[page] = None
        else:
            self._blank.append(page)

    def release_all(self, pages: Sequence[int]) -> None:
        """Releases a sequence's pages, last first: ends are forgotten before the beginnings that others may share."""
        for page in reversed(pages):
            self.release(page)

    def publish(self, page: int, parent: Link, tokens: Sequence[int]) -> None:
        """Says what a held page contains (more of it, if it was published before with fewer tokens)."""
        known = tuple(tokens)
        if page in self._content:
            if len(self._content[page].tokens) >= len(known):
                return
            self._forget(page)
        self._content[page] = _Content(parent, known)
        self._branches.setdefault(parent, OrderedDict())[page] = None
        if len(known) == self.page_size:
            self._whole.setdefault(next_link(parent, known), page)

    def match(self, salt: str, tokens: Sequence[int]) -> Match:
        """Holds and returns the pages that begin `tokens`, leaving at least one token to compute."""
        size, link, pages = self.page_size, root_link(salt), list[int]()
        most = len(tokens) - 1
        while (len(pages) + 1) * size <= most:
            follower = next_link(link, tokens[len(pages) * size : (len(pages) + 1) * size])
            page = self._whole.get(follower)
            if page is None:
                break
            self.hold(page)
            pages.append(page)
            link = follower
        partial, copied = self._longest_branch(link, tokens[len(pages) * size : most])
        return Match(pages, link, partial, copied)

    def _longest_branch(self, link: Link, rest: Sequence[int]) -> tuple[int | None, int]:
        best, copied = None, 0
        branches = self._branches.get(link)
        if not branches or not rest:
            return best, copied
        for page in list(reversed(branches))[:_MOST_BRANCHES]:
            length = _common_prefix(self._content[page].tokens, rest)
            if length > copied:
                best, copied = page, length
        return best, copied

    def _forget(self, page: int) -> None:
        content = self._content.pop(page)
        branches = self._branches[content.parent]
        del branches[page]
        if not branches:
            del self._branches[content.parent]
        if len(content.tokens) == self.page_size:
            link = next_link(content.parent, content.tokens)
            if self._whole.get(link) == page:
                del self._whole[link]

    def check(self) -> None:
        """Asserts the invariants; tests call it after every step. O(pages)."""
        held = {page for page in range(self.count) if self._holders[page]}
        blank, cached = set(self._blank), set(self._cached)
        assert len(blank) == len(self._blank), "a page is blank twice"
        assert held | blank | cached == set(range(self.count)), "a page is lost"
        assert len(held) + len(blank) + len(cached) == self.count, "a page is in two places"
        assert all(page in self._content for page in cached), "a cached page has no content"
        assert all(page in self._content for page in self._whole.values()), "a link leads to a page without content"


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return length
