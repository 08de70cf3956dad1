"""Who is tried after a death, in which order, and what is kept out afterwards."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.messages import Generate, Sampling
from engine.suspects import TRIAL_TOKENS, Quarantine, Suspects


def wanted(prompt: int = 1, seed: int = 0, **fields: Any) -> Generate:
    sampling = Sampling(max_tokens=8, seed=seed, temperature=fields.pop("temperature", 1.0))
    return Generate(request_id=f"r{seed}", prompt=[prompt], sampling=sampling, **fields)


def test_suspects_are_tried_one_after_the_other() -> None:
    suspects = Suspects()
    for name in ("a", "b", "c"):
        suspects.add(name, 10)
    assert suspects.take() == "a"
    assert suspects.take() is None
    assert not suspects.has_passed("a", 10 + TRIAL_TOKENS - 1)
    assert not suspects.has_passed("b", 10_000)  # not its turn
    assert suspects.has_passed("a", 10 + TRIAL_TOKENS)
    assert suspects.release("a")
    assert "a" not in suspects
    assert suspects.take() == "b"


def test_a_suspect_that_leaves_unasked_does_not_end_anothers_trial() -> None:
    suspects = Suspects()
    for name in ("a", "b"):
        suspects.add(name, 0)
    suspects.take()
    assert not suspects.release("b")
    assert not suspects.release("stranger")
    assert suspects.on_trial == "a"


def test_a_trial_that_a_process_did_not_live_to_see_is_held_in_the_next() -> None:
    suspects = Suspects()
    suspects.add("a", 0)
    suspects.take()
    suspects.adjourn()
    assert suspects.take() == "a"


def test_what_was_asked_is_refused_whoever_asks_until_the_time_is_over() -> None:
    now = 0.0
    quarantine = Quarantine(60.0, clock=lambda: now)
    quarantine.put(wanted(seed=1, tenant="x"))
    assert quarantine.left_s(wanted(seed=2, tenant="y", emitted=[1], deadline_s=3.0)) == 60.0
    assert quarantine.left_s(wanted(prompt=2)) == 0
    assert quarantine.left_s(wanted(temperature=0.5)) == 0
    assert quarantine.left_s(msgspec.structs.replace(wanted(), grammar="g")) == 0
    now = 60.0
    assert quarantine.left_s(wanted()) == 0


def test_quarantine_is_bounded() -> None:
    quarantine = Quarantine(60.0, most=2)
    for prompt in (1, 2, 3):
        quarantine.put(wanted(prompt))
    assert [quarantine.left_s(wanted(prompt)) > 0 for prompt in (1, 2, 3)] == [False, True, True]
