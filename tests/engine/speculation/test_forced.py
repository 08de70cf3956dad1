"""Forced text is spelled once, and what is kept of it is bounded by tokens, not by texts alone."""

from __future__ import annotations

from engine.speculation import ForcedText


def test_long_texts_make_room_for_one_another() -> None:
    spelled: list[int] = []

    def encode(text: str) -> list[int]:
        spelled.append(len(text))
        return [7] * len(text)

    forced, long = ForcedText(encode), 100_000
    for index in range(40):
        text = b"%04d" % index + b"x" * long
        assert len(forced.spelled(text)) == long + 4
        assert len(forced.spelled(text)) == long + 4  # not spelled again
    assert len(spelled) == 40
    forced.spelled(b"0000" + b"x" * long)  # it had made room
    assert len(spelled) == 41
    forced.spelled(b"y" * (1 << 21))  # longer than all that is kept: this one is
    forced.spelled(b"y" * (1 << 21))
    assert len(spelled) == 42
