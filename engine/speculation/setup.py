"""From the engine's configuration to who guesses.

What it is for: the composition root asks here. What may not enter: steps, requests.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from engine.batch import Runner
from engine.config import EngineConfig
from engine.model.heads import FILE as HEADS_FILE
from engine.speculation.cost import StepCost, cost_clock, measured
from engine.speculation.drafting import Drafter
from engine.speculation.endings import Endings
from engine.speculation.forced import ForcedText
from engine.speculation.lookup import warm, without_blank
from engine.speculation.speculation import Seer, Speculation
from engine.tokenizer import Tokenizer
from grammar import Vocabulary


def speculation_of(
    config: EngineConfig, tokenizer: Tokenizer, vocabulary: Vocabulary, runner: Runner, seer: Seer | None
) -> Speculation | None:
    """None if nobody may guess. Times a few steps of the runner, which must not have served anything yet."""
    if config.speculate == 0 or not config.proposers:
        return None
    warm()
    spelled = tokenizer.padded_bytes(vocabulary.size)  # what special tokens are called is no text
    forced = ForcedText(partial(tokenizer.encode, special=True)) if "grammar" in config.proposers else None
    drafter = Drafter(
        most=config.speculate,
        ends=frozenset(vocabulary.eos_token_ids),
        forced=forced,
        endings=Endings(spelled, forced) if forced else None,
        folded=without_blank(spelled) if "ngram" in config.proposers else None,
    )
    clock = cost_clock(runner.info.device)
    samples = measured(runner, config.max_sequences, config.max_batch_tokens, clock)
    return Speculation(drafter, StepCost(samples, clock), seer)


def heads_folder(config: EngineConfig, folder: Path) -> str | None:
    """Where Medusa heads are, if any are to be asked."""
    if config.speculate == 0 or "heads" not in config.proposers:
        return None
    if config.heads is not None:
        return config.heads
    return str(folder) if (folder / HEADS_FILE).exists() else None
