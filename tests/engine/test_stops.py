"""Stop strings are found on bytes, wherever tokens end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.stops import StopScanner

TEXTS = st.lists(st.binary(max_size=4).map(lambda b: bytes(x % 3 + 97 for x in b)), max_size=12)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=3)


@given(TEXTS, STOPS)
@settings(max_examples=200, deadline=None)
def test_a_hit_comes_with_the_token_that_completes_it(pieces: list[bytes], stops: list[bytes]) -> None:
    scanner, text = StopScanner(stops), b""
    for piece in pieces:
        hit = scanner.feed(piece)
        text += piece
        assert (hit is not None) == any(stop in text for stop in stops)
        if hit is not None:
            assert text[hit.start :].startswith(hit.stop)
            ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
            assert hit.start + len(hit.stop) == min(ends)
            return


@given(TEXTS, STOPS)
@settings(max_examples=200, deadline=None)
def test_held_is_the_longest_end_that_may_begin_a_stop(pieces: list[bytes], stops: list[bytes]) -> None:
    scanner, text = StopScanner(stops), b""
    for piece in pieces:
        if scanner.feed(piece) is not None:
            assert scanner.held == 0
            return
        text += piece
        lengths = [n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])]
        assert scanner.held == max(lengths, default=0)


def test_without_stops_nothing_is_held() -> None:
    scanner = StopScanner(())
    assert scanner.feed(b"abc") is None
    assert scanner.held == 0
