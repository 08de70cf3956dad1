"""Text that may be shown: whole characters, no stop strings, and tokens that spell it exactly."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Finish, FinishReason, Output, Token
from engine.stops import StopScanner
from service.text import Piece, TextStream, incomplete_suffix


def run(tokens: list[bytes], stops: list[bytes], *, keep_stop: bool = False, one_output: bool = False) -> list[Piece]:
    """Feeds tokens as an engine does: it ends at the token that completes a stop string."""
    stream = TextStream(0, lambda token_id: tokens[token_id], StopScanner(stops), keep_stop=keep_stop)
    engine, finish = StopScanner(stops), Finish(reason=FinishReason.EOS)
    pieces: list[Piece] = []
    for index, data in enumerate(tokens):
        hit = engine.feed(data)
        token = Token(index, -1.0, -1.0, 1.0)
        if hit is not None:
            finish = Finish(reason=FinishReason.STOP, stop=hit.stop)
            if one_output:
                return [*pieces, stream.feed(Output(request_id="", first=index, tokens=[token], finish=finish))]
        pieces.append(stream.feed(Output(request_id="", first=index, tokens=[token])))
        if hit is not None:
            break
    return [*pieces, stream.feed(Output(request_id="", first=len(tokens), finish=finish))]


@st.composite
def split_text(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A text, and its bytes cut anywhere, inside characters too."""
    text = draw(st.text(alphabet="abEND€ü😀 ", max_size=24))
    data = text.encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=8)) | {0, len(data)})
    return text, [data[a:b] for a, b in pairwise(cuts)] + [b""] * draw(st.integers(0, 1))


@given(split_text(), st.booleans())
def test_text_ends_before_the_first_stop_string(case: tuple[str, list[bytes]], one_output: bool) -> None:
    text, tokens = case
    pieces = run(tokens, [b"END", b"Eb"], one_output=one_output)
    places = [text.find(stop) for stop in ("END", "Eb") if stop in text]
    shown = "".join(piece.text for piece in pieces)
    if not places:
        assert shown == text
    else:
        # The match that ends first counts, as in the engine.
        ends = {text.find(stop) + len(stop): text.find(stop) for stop in ("END", "Eb") if stop in text}
        assert shown == text[: ends[min(ends)]]


@given(split_text())
def test_the_shown_tokens_spell_the_text(case: tuple[str, list[bytes]]) -> None:
    pieces = run(case[1], [b"END"])
    data = b"".join(shown.data for piece in pieces for shown in piece.shown)
    assert data.decode(errors="strict") == "".join(piece.text for piece in pieces)


@given(split_text())
def test_no_piece_splits_a_character(case: tuple[str, list[bytes]]) -> None:
    assert all("\ufffd" not in piece.text for piece in run(case[1], []))


@given(split_text())
def test_a_kept_stop_string_is_shown_at_once(case: tuple[str, list[bytes]]) -> None:
    text, tokens = case
    stream = TextStream(0, lambda token_id: tokens[token_id], StopScanner([b"END"]), keep_stop=True)
    shown = "".join(
        stream.feed(Output(request_id="", first=i, tokens=[Token(i, -1.0, -1.0, 1.0)])).text for i in range(len(tokens))
    )
    assert shown == text


def test_bytes_that_are_no_characters_are_replaced_at_the_end() -> None:
    assert "".join(piece.text for piece in run([b"a\xe2\x82"], [])) == "a\ufffd"


def test_incomplete_suffix_counts_the_bytes_of_an_unfinished_character() -> None:
    whole = "a€😀ü".encode()
    assert [incomplete_suffix(whole[:n]) for n in range(len(whole) + 1)] == [0, 0, 1, 2, 0, 1, 2, 3, 0, 1, 0]
