"""What cannot end before its deadline is told so at once, where others wait; nobody else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.messages import Stats
from service.pace import Pace
from tests.service.houses import saying, served


def paced(count: int = 20, tokens: int = 100, seconds: float = 5.0) -> Pace:
    pace = Pace()
    for _ in range(count):
        pace.note(tokens, seconds)
    return pace


def test_it_expects_the_queue_and_what_answers_take() -> None:
    pace = paced()
    assert pace.expected_s(budget=10, queue_s=3.0, waiting=1) == pytest.approx(1.25 * 3.5)
    assert pace.expected_s(budget=4000, queue_s=3.0, waiting=1) == pytest.approx(1.25 * 8.0)  # few use up their budget


def test_where_nobody_waits_or_little_is_known_nothing_is_expected() -> None:
    assert paced().expected_s(budget=100, queue_s=99.0, waiting=0) == 0
    assert paced(count=3).expected_s(budget=100, queue_s=99.0, waiting=9) == 0


def test_it_forgets() -> None:
    pace = paced(count=50, seconds=50.0)
    for _ in range(50):
        pace.note(100, 1.0)
    assert pace.expected_s(budget=100, queue_s=0.0, waiting=1) == pytest.approx(1.25, rel=0.3)
    pace.note(0, 7.0)  # an answer without tokens says nothing


@pytest.mark.anyio
async def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, engine):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        for _ in range(20):
            house.pace.note(100, 5.0)
        engine.stats = Stats(waiting=3, queue_s_p50=4.0)

        async def ask(deadline_s: float | None) -> Any:
            body = {"prompt": "x", "max_tokens": 40, "formwork": {"deadline_s": deadline_s}}
            return await client.post("/v1/completions", json=body)

        refused = await ask(7.0)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert "about 8 s" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) >= 1
        assert not engine.requests
        assert [(await ask(deadline_s)).status_code for deadline_s in (8.0, None)] == [200, 200]
        engine.stats = Stats(waiting=0, queue_s_p50=4.0)
        assert (await ask(5.0)).status_code == 200
    assert house.gate.refused == 1
