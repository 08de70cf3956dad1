"""Fault points: off they are not there; on they hit what they name and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.faults import Action, FaultPoints, FaultSyntaxError, Injected, Site, injected, parse_faults
from engine.loop import EngineLoop, Rooms
from engine.messages import ErrorCode
from tests.engine.houses import House, drive, house, request


def faulty(text: str, life: int = 1) -> House:
    """A loop without a model, with these faults."""
    plain = house()
    loop = plain.loop
    rooms = Rooms(loop._info, loop._runner, loop._scheduler, loop._sampler, loop._admission)
    rooms = injected(rooms, FaultPoints(parse_faults(text), life))
    return replace(plain, loop=EngineLoop(rooms, plain.clock))


def test_a_line_of_faults_is_read() -> None:
    first, second = parse_faults("step:kill:nth=4,life=1; logits:nan:seed=666,p=0.5")
    assert (first.site, first.action, first.nth, first.life, first.seed) == (Site.STEP, Action.KILL, 4, 1, None)
    assert (second.site, second.action, second.seed, second.p) == (Site.LOGITS, Action.NAN, 666, 0.5)
    assert parse_faults("") == ()


@pytest.mark.parametrize(
    "text", ["nowhere:kill", "step:vanish", "step", "step:kill:when=3", "step:kill:nth=x", "step:nan", "draw:empty"]
)
def test_a_line_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(FaultSyntaxError, match=text.partition(":")[0]):
        parse_faults(text)


def test_conditions_say_when_a_fault_is_due() -> None:
    points = FaultPoints(parse_faults("draw:raise:seed=7,nth=2; step:raise:life=2"), life=1)
    points.reach(Site.DRAW, 7)
    points.reach(Site.DRAW, 8)
    points.reach(Site.DRAW, 8)
    with pytest.raises(Injected):
        points.reach(Site.DRAW, 7)
    points.reach(Site.STEP)  # this is the first life
    with pytest.raises(Injected):
        FaultPoints(parse_faults("step:raise:life=2"), life=2).reach(Site.STEP)


def test_chances_repeat_themselves() -> None:
    def hits() -> list[bool]:
        points = FaultPoints(parse_faults("logits:nan:p=0.3"), life=1)
        return [points.reach(Site.LOGITS) is not None for _ in range(200)]

    assert hits() == hits()
    assert 30 < sum(hits()) < 90


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("logits:nan", ErrorCode.NUMERIC),
        ("logits:inf", ErrorCode.NUMERIC),
        ("draw:raise", ErrorCode.INTERNAL),
        ("drawn:raise", ErrorCode.INTERNAL),
    ],
)
def test_a_fault_ends_the_request_that_it_names_and_no_other(fault: str, code: ErrorCode) -> None:
    """The others' tokens and log-probs are those of a run without it, and every page comes back."""
    wanted = [request(f"r{seed}", (1, 2, seed), seed=seed, temperature=1.0) for seed in range(4)]
    quiet = drive(house(), wanted)
    shaken_house = faulty(f"{fault}:seed=2,nth=3")
    shaken = drive(shaken_house, wanted)
    failure = shaken["r2"].failure
    assert failure is not None
    assert failure.code is code
    for name in ("r0", "r1", "r3"):
        assert shaken[name].tokens == quiet[name].tokens
    assert shaken_house.scheduler.pool.held == 0


def test_a_failing_forward_pass_is_not_one_requests_fault() -> None:
    """It ends the process, so that the client resumes everyone."""
    with pytest.raises(Injected):
        drive(faulty("step:raise:nth=2"), [request()])


def test_without_faults_nothing_is_wrapped() -> None:
    rooms: Any = house().loop
    assert not any(type(part).__module__ == "engine.faults" for part in vars(rooms).values())
