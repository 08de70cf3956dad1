"""A request computed in parts, one after the other, is told one end.

What it is for: `engine.continued` adds up lives, `service.reasoning` a thought and its answer. What may not enter: what
the parts are.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.messages import Finish, Guessed


def joined(first: Finish, then: Finish) -> Finish:
    """`then`, which ended the request, with what `first` counted. What is no sum (why, the mark, the prompt's cached
    tokens) is the last part's."""
    return msgspec.structs.replace(
        then,
        closed_by_budget=first.closed_by_budget or then.closed_by_budget,
        forced_tokens=first.forced_tokens + then.forced_tokens,
        queue_s=first.queue_s + then.queue_s,
        prefill_s=first.prefill_s + then.prefill_s,
        decode_s=first.decode_s + then.decode_s,
        passes=first.passes + then.passes,
        guessed=all_guessed([*first.guessed, *then.guessed]),
        jumped_tokens=first.jumped_tokens + then.jumped_tokens,
    )


def all_guessed(parts: Iterable[Guessed]) -> list[Guessed]:
    """Each proposer's guesses in all parts, in the order in which they were first heard of."""
    sums: dict[str, Guessed] = {}
    for each in parts:
        before = sums.get(each.proposer, Guessed(each.proposer, 0, 0))
        sums[each.proposer] = Guessed(each.proposer, before.proposed + each.proposed, before.accepted + each.accepted)
    return list(sums.values())
