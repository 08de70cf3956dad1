"""engine.draft_model: beside the bundled model, through the engine's own composition."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import Finish, Generate, Output, Sampling
from engine.model import UnsupportedModel
from engine.process import build
from engine.speculation.cost import StepCost
from engine.tokenizer import Tokenizer

BUNDLED = Path(__file__).parents[2] / "models" / "formwork-mini"
CONFIG = EngineConfig(model=str(BUNDLED), device="cpu", threads=1, cache_tokens=2048)


def answered(config: EngineConfig) -> tuple[list[list[int]], list[Finish]]:
    """Two prompts, one greedy and one sampled."""
    rooms = build(config)
    if rooms.speculation is not None:  # the clock stands still: what pays must not depend on who else is on the machine
        rooms.speculation.cost = StepCost((), lambda: 0.0)
    loop = EngineLoop(rooms, time.monotonic)
    encode = Tokenizer.load(BUNDLED).encode
    tokens: dict[str, list[int]] = {"0": [], "1": []}
    finishes = []
    for name, temperature in (("0", 0.0), ("1", 1.0)):
        sampling = Sampling(max_tokens=40, seed=3, temperature=temperature, ignore_eos=True)
        loop.generate(Generate(request_id=name, prompt=encode("Tell me a story about"), sampling=sampling))
    while not loop.is_idle:
        for event in loop.step():
            assert isinstance(event, Output)
            tokens[event.request_id] += [token.token_id for token in event.tokens]
            finishes += [event.finish] if event.finish else []
    return list(tokens.values()), finishes


@pytest.mark.slow
def test_the_bundled_model_drafting_for_itself_is_always_right_and_changes_nothing() -> None:
    """Its cache follows prompts, decoding and what was guessed: else its guesses would not be the model's own."""
    plain, _ = answered(msgspec.structs.replace(CONFIG, speculate=0))
    drafted, finishes = answered(
        msgspec.structs.replace(CONFIG, draft_model=str(BUNDLED), proposers=("grammar",), speculate=4)
    )
    assert drafted == plain
    for finish in finishes:
        (report,) = finish.guessed
        assert report.proposer == "model"
        assert report.accepted == report.proposed > 4


def test_a_draft_model_without_guesses_is_refused() -> None:
    config = msgspec.structs.replace(CONFIG, draft_model=str(BUNDLED), speculate=0)
    with pytest.raises(UnsupportedModel, match="draft model"):
        build(config)
