"""Guesses beside several ranks, adapters and a draft model, over tiny random models: the tokens of plain steps."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from engine.adapters import AdapterStore
from engine.batch import Runner, StepBatch
from engine.messages import AdapterRef, Generate, Mark
from engine.model import ModelRunner, RunnerConfig
from tests.engine.houses import Answer, drafter, drive, house, request
from tests.engine.model.conftest import family_folder  # noqa: F401 - a fixture
from tests.engine.model.families import VOCABULARY
from tests.engine.model.parallel.threads import ThreadGroup, load_in_turns, together
from tests.engine.model.test_lora import adapter

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

Commands = queue.SimpleQueue[Callable[[ModelRunner], object] | None]
SPELLING = [bytes([token % 256]) for token in range(VOCABULARY)]


def requests(adapters: tuple[AdapterRef | None, ...] = (None,)) -> list[Generate]:
    """Greedy, sampled, penalised and marked ones, in turn with each adapter; their prompts share their beginning.

    Two are biased to repeat themselves, so that a lookup is right.
    """
    prompt = [5 + place % 9 for place in range(30)]
    kinds: list[dict[str, Any]] = [
        {"logit_bias": {6: 14.0}},
        {"temperature": 1.0, "logit_bias": {6: 14.0}},
        {"temperature": 0.6, "repetition_penalty": 1.1},
        {"temperature": 0.8},
    ]
    wanted = [
        request(f"r{seed}", [*prompt, seed + 5], max_tokens=40, seed=seed, ignore_eos=True, **options)
        for seed, options in enumerate(kinds)
    ]
    wanted[3] = msgspec.structs.replace(wanted[3], mark=Mark(scheme="gumbel", key_id="test"))
    return [msgspec.structs.replace(each, adapter=adapters[place % len(adapters)]) for place, each in enumerate(wanted)]


def driven(
    runner: Runner,
    wanted: list[Generate],
    guesses: int,
    adapters: AdapterStore | None = None,
    drafting: Runner | None = None,
) -> dict[str, Answer]:
    guessing = drafter(SPELLING, most=guesses) if guesses else None
    if guessing is not None and drafting is not None:
        guessing = replace(guessing, folded=None)  # else a lookup that is sure of itself leaves it nothing
    made = house(runner, spelling=SPELLING, max_batch_tokens=48, drafter=guessing, drafting=drafting, adapters=adapters)
    return drive(made, wanted)


def alike(plain: dict[str, Answer], guessing: dict[str, Answer], source: str) -> None:
    """The same tokens and log-probs, and some of them were guessed by `source`."""
    accepted = 0
    for name, answer in plain.items():
        other = guessing[name]
        assert answer.failure is other.failure is None
        assert answer.ids == other.ids
        for ours, theirs in zip(answer.tokens, other.tokens, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert other.finish is not None
        accepted += sum(each.accepted for each in other.finish.guessed if each.proposer == source)
    assert accepted > 10


class Leading:
    """Rank 0: tells the others each step, as engine.team does over sockets."""

    def __init__(self, runner: ModelRunner, others: Commands) -> None:
        self._runner, self._others, self.info = runner, others, runner.info

    def run(self, batch: StepBatch) -> torch.Tensor:
        self._others.put(lambda runner: runner.run(batch))
        return self._runner.run(batch)

    def copy_page(self, source: int, target: int) -> None:
        self._others.put(lambda runner: runner.copy_page(source, target))
        self._runner.copy_page(source, target)


@pytest.mark.parametrize("source", ["ngram", "model"])
def test_two_ranks_verify_what_one_would_have_said(
    source: str,
    family_folder: Callable[[str], Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against one rank without guesses; a draft model runs beside the first rank only."""
    load_in_turns(monkeypatch)
    folder, wanted = family_folder("llama"), requests()
    config = RunnerConfig(path=str(folder), pages=64, threads=1)
    commands: Commands = queue.SimpleQueue()

    drafting = ModelRunner(config) if source == "model" else None

    def work(group: ThreadGroup) -> dict[str, Answer]:
        runner = ModelRunner(config, group)
        if group.rank:
            while (command := commands.get()) is not None:
                command(runner)
            return {}
        try:
            return driven(Leading(runner, commands), wanted, 16, drafting=drafting)
        finally:
            commands.put(None)

    shared, _ = together(2, work)
    alike(driven(ModelRunner(config), wanted, 0), shared, source)


def test_a_draft_model_guesses_for_adapters_too(family_folder: Callable[[str], Path], tmp_path: Path) -> None:  # noqa: F811
    """It knows no adapters: what it guesses is verified as ever, in one batch with requests that have none."""
    base = family_folder("llama")
    folders = [adapter(base, tmp_path / str(seed), seed, target_modules=["q_proj", "v_proj"]) for seed in range(2)]
    wanted = requests((AdapterRef(str(folders[0]), "v0"), None, AdapterRef(str(folders[1]), "v1")))
    told = []
    for guesses in (0, 16):
        runner = ModelRunner(RunnerConfig(path=str(base), pages=64, threads=1))
        drafting = ModelRunner(RunnerConfig(path=str(base), pages=64, threads=1)) if guesses else None
        told.append(driven(runner, wanted, guesses, AdapterStore(runner, 2, 8), drafting))
    alike(told[0], told[1], "model")
