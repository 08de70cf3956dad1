"""What does a step of several ranks cost, and is what they send what the formula says? CPU ranks over gloo.

    formwork bench ranks [--ranks 2] [--repeats 20]

A random Llama of 125M parameters (`benchmarks.random_llama`). Numbers exchanged: what rank 0 gives to sums and
collections in one step, beside (2 · layers + 1) · T · hidden + R · vocabulary share. Times are wall-clock, best of the
repeats; ranks share the machine's cores, so a second rank helps only where a second core is free.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.forward import step
from benchmarks.random_llama import random_llama
from engine.batch import Runner, StepBatch
from engine.model import ModelRunner, RunnerConfig
from engine.model.loading import load_config
from engine.team import TeamRunner

_CONTEXT = 192
_BATCHES = (1, 4, 16)


def best_ms(runner: Runner, batch: StepBatch, repeats: int) -> float:
    """Milliseconds of the quickest run."""
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        runner.run(batch)
        best = min(best, time.perf_counter() - start)
    return best * 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one row a batch size."""
    parser = argparse.ArgumentParser(
        prog="formwork bench ranks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        model = random_llama(Path(folder))
        config = RunnerConfig(path=str(model), device="cpu", pages=512, threads=1)
        alone = ModelRunner(config)
        team = TeamRunner(config, options.ranks, timeout_s=60.0)
        try:
            table(alone, team, str(model), options.ranks, options.repeats)
        finally:
            team.close()


def table(alone: ModelRunner, team: TeamRunner, model: str, ranks: int, repeats: int) -> None:
    """Decode steps at a few batch sizes."""
    settings = load_config(model)
    share = -(-settings.vocab_size // ranks) + 1
    print(f"| sequences | 1 rank, ms | {ranks} ranks, ms | of it in sums, ms | numbers exchanged | by the formula |")
    print("|--:|--:|--:|--:|--:|--:|")
    for count in _BATCHES:
        batch = step([1] * count, [_CONTEXT] * count)
        one, several = best_ms(alone, batch, repeats), best_ms(team, batch, repeats)
        before, waited = team.group.exchanged, team.group.waited_s
        for _ in range(repeats):
            team.run(batch)
        exchanged = (team.group.exchanged - before) // repeats
        waiting = (team.group.waited_s - waited) / repeats * 1000
        formula = (2 * settings.num_hidden_layers + 1) * count * settings.hidden_size + count * share
        print(f"| {count} | {one:.1f} | {several:.1f} | {waiting:.1f} | {exchanged:,} | {formula:,} |")


if __name__ == "__main__":
    main()
