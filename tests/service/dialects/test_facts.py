"""What is told of a whole answer."""

from __future__ import annotations

import itertools

from engine.messages import Finish, FinishReason, MarkReport
from service.dialects.facts import formwork_block
from service.generation import Prepared, Summary


class _Prepared:
    """As much of a request as the block tells."""

    seed = 7
    compiled = None


def test_the_watermark_is_told_by_the_first_marked_choice_whichever_ended_first() -> None:
    marks = {
        0: MarkReport(applied=False, eligible=1, reason="too_short"),
        1: MarkReport(applied=True, scheme="gumbel", key_id="k", eligible=10, expected_p=0.5),
        2: MarkReport(applied=True, scheme="gumbel", key_id="k", eligible=100, expected_p=1e-9),
    }
    prepared: Prepared = _Prepared()  # type: ignore[assignment]
    for order in itertools.permutations(marks):
        finishes = {index: Finish(reason=FinishReason.EOS, mark=marks[index]) for index in order}
        told = formwork_block(prepared, Summary(prompt_tokens=1, finishes=finishes))
        assert told["watermark"]["expected_p"] == 0.5
        assert told["watermark"]["eligible"] == 111
        assert [choice["index"] for choice in told["choices"]] == [0, 1, 2]
