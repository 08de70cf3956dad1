"""Which positions may carry the watermark, and what stands before them: one home for engine and detector.

What it is for: the sampler asks before a draw; the detection route asks again while it replays a text. Both ask here,
so they cannot disagree. It reads grammar state only (never the model), or a detector could not decide it again. What
may not enter: torch, keys, schemes.

The rule: a position is eligible iff at least two tokens are legal under the grammar alone (no budget) and it stands
in free string content or in prose. Its context is what precedes it in the same value (or the same stretch of prose),
never the prompt and never another value. End tokens are not text: an end token that was drawn is not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.kernels import exact
from grammar import Grammar, Matcher, PlaceKind
from watermark import Kind, Position

_KINDS = {PlaceKind.STRING: Kind.VALUE, PlaceKind.FREE: Kind.PROSE}  # no other place may be marked
MARKED_PLACES = frozenset(_KINDS)


def standing(matcher: Matcher | None, emitted: Sequence[int], width: int) -> tuple[Kind, list[int]] | None:
    """The kind and context (at most `width` tokens) of the next position; `None`: its place may not be marked.

    `emitted`: the output tokens so far, or as many of the last ones as the width. Without a grammar everything is
    prose. Says nothing of how many tokens are legal.
    """
    if matcher is None:
        return Kind.PROSE, list(emitted[max(0, len(emitted) - width) :])
    kind = _KINDS.get(matcher.place_kind)
    if kind is None:
        return None
    inside = min(matcher.value_tokens, width)
    return kind, list(emitted[len(emitted) - inside :])


@exact
def is_choice(mask: NDArray[np.int32]) -> bool:
    """Whether at least two tokens are legal."""
    found = False
    for word in mask:
        if word != 0:
            if found or word & (word - 1) != 0:
                return True
            found = True
    return False


@dataclass(frozen=True, slots=True)
class FreeChoice:
    """An eligible position, and which token of the text it is."""

    place: int
    position: Position


def free_choices(
    grammar: Grammar | None, tokens: Sequence[int], eos_token_ids: Sequence[int], width: int
) -> list[FreeChoice]:
    """Replays a text: the positions that a detector may score, with contexts of at most `width` tokens.

    Stops where the text leaves the grammar or ends.
    """
    ends = frozenset(eos_token_ids)
    matcher = None if grammar is None else grammar.matcher()
    row = np.zeros(0 if grammar is None else grammar.automaton.vocabulary.words, np.int32)
    choices: list[FreeChoice] = []
    for index, token in enumerate(tokens):
        if token in ends:
            break
        place = standing(matcher, tokens[max(0, index - width) : index], width)
        if matcher is not None:
            if place is not None:
                matcher.fill_mask(row)
                place = place if is_choice(row) else None
            if not matcher.advance(token):
                break
        if place is not None:
            kind, context = place
            choices.append(FreeChoice(index, Position(token, tuple(context), kind)))
    return choices
