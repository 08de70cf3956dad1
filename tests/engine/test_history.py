"""What penalties look at: every token counted once, whatever the order in which it was asked for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.history import History, TokenCounts

TOKENS = st.lists(st.integers(0, 150), max_size=200)


def as_counts(history: History) -> dict[int, int]:
    assert len(set(history.ids.tolist())) == len(history.ids)
    return dict(zip(history.ids.tolist(), history.counts.astype(int).tolist(), strict=True))


@given(TOKENS, TOKENS, TOKENS)
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_the_output_and_the_prompt_is_seen(
    prompt: list[int], output: list[int], ahead: list[int]
) -> None:
    """With tokens ahead too, which are forgotten again."""
    counts = TokenCounts(prompt)
    for token in output:
        counts.note(token)
    assert as_counts(counts.history(ahead)) == {**dict.fromkeys(prompt, 0), **Counter([*output, *ahead])}
    assert as_counts(counts.history()) == {**dict.fromkeys(prompt, 0), **Counter(output)}
