"""What the mark and the log-probs cost: the same requests with them and without, at concurrency 16.

    formwork bench watermark --tables cost

Two loops of the engine in one process, one with unmarked requests, the other with marked ones, take steps in turn, so
that whatever else the machine does falls on both alike. What counts is the CPU time of steps in which all sixteen
decode on both sides: the mean difference between a marked step and the unmarked one beside it, with its standard error,
without the tenth that is farthest off at either end (a forward pass alone strays by several percent; the mark is to be
told to a tenth of that). Log-probs are measured in both: what they cost is the time of that pass by itself, all of it,
though a draw would have to read the row too. Free text is the worst case: every token is marked. The random
125M-parameter model is another: its logits are all alike, so that every token of the vocabulary may win. Nothing is
guessed: marked text is another text, and how well a text can be guessed is not the mark's cost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
from scipy import stats

from benchmarks.engine import plan_of, requests_of
from benchmarks.random_llama import random_llama
from engine.config import EngineConfig
from engine.drawing import Row, Rule
from engine.loop import EngineLoop, Rooms
from engine.messages import Generate, Mark, Sampling
from engine.process import build
from engine.sampler import CpuSampler

CONCURRENCY, ROUNDS = 16, 6
_OUTLIERS = 0.1  # at either end
TOKENS = {"free": 48, "schema": 112}  # the schema's shortest answer must fit


@dataclass
class Side:
    """One of the two loops, and the CPU seconds and tokens of each of its steps."""

    loop: EngineLoop
    steps: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, requests: Sequence[Generate]) -> None:
        """Hands the requests over and computes their prompts, which do not count."""
        self.steps.clear()
        for request in requests:
            self.loop.generate(request)
        while self.loop.stats().waiting:
            self.loop.step()

    def step(self) -> None:
        """One step, its CPU time and its tokens."""
        if self.loop.is_idle:
            return
        started = time.process_time()
        events = self.loop.step()
        seconds = time.process_time() - started
        self.steps.append((seconds, sum(len(event.tokens) for event in events if hasattr(event, "tokens"))))


@dataclass(frozen=True)
class Spent:
    """CPU seconds a token without the mark, what the mark adds, and how far that may be off."""

    without: float
    mark: float
    error: float


def costs(bundled: str, key_file: str, row: Callable[..., None]) -> None:
    """A line for each model, kind of text and scheme."""
    row("model", "text", "scheme", "CPU ms a token unmarked", "mark µs", "mark", "log-probs", "both", "bar 3 %")
    with tempfile.TemporaryDirectory() as place:
        for name, folder in (("random 125M", random_llama(Path(place))), (Path(bundled).name, Path(bundled))):
            config = EngineConfig(
                model=str(folder), threads=1, cache_bytes=1 << 28, watermark_key_file=key_file, speculate=0
            )
            rooms = build(config)
            sides = Side(EngineLoop(rooms, time.monotonic)), Side(EngineLoop(build(config), time.monotonic))
            plan = plan_of(folder, rooms.info.vocab_size, rooms.info.eos_token_ids)
            for side in sides:
                side.loop.load_grammar(plan)
            measuring = _measuring(rooms)
            for text, fingerprint in (("free", None), ("schema", plan.fingerprint)):
                for scheme in ("gumbel", "kgw"):
                    plain = requests_of(CONCURRENCY, TOKENS[text], fingerprint, scheme == "kgw")
                    spent = _spent(sides, plain, Mark(scheme=scheme, key_id="key-0"))
                    bare = spent.without - measuring
                    both = (spent.mark + measuring) / bare
                    row(
                        *(name, text, scheme, f"{1e3 * spent.without:.3f}"),
                        f"{1e6 * spent.mark:.0f} ± {1e6 * spent.error:.0f}",
                        *(f"{spent.mark / spent.without:+.1%}", f"{measuring / bare:+.1%}", f"{both:+.1%}"),
                        "met" if both < 0.03 else "MISSED",
                    )


def _spent(sides: tuple[Side, Side], plain: Sequence[Generate], mark: Mark) -> Spent:
    """Over all pairs of steps; the first round warms up."""
    marked = [msgspec.structs.replace(each, mark=mark) for each in plain]
    pairs: list[tuple[float, float]] = []
    for number in range(ROUNDS + 1):
        # The two change places after each round, should one have the better memory.
        order = sides if number % 2 else sides[::-1]
        for side, requests in zip(order, (plain, marked), strict=True):
            side.begin(requests)
        while not all(side.loop.is_idle for side in order):
            # Whoever goes second finds the caches as the other left them: each as often.
            for side in order[:: 1 if len(order[0].steps) % 2 else -1]:
                side.step()
        both = zip(*(side.steps for side in order), strict=False)
        pairs += [(one[0], other[0]) for one, other in both if number and one[1] == other[1] == CONCURRENCY]
    without, with_it = np.array(pairs).T / CONCURRENCY
    apart = with_it - without
    error = stats.mstats.trimmed_stde(apart, (_OUTLIERS, _OUTLIERS))
    return Spent(
        *(float(each) for each in (stats.trim_mean(without, _OUTLIERS), stats.trim_mean(apart, _OUTLIERS), error))
    )


def _measuring(rooms: Rooms) -> float:
    """CPU seconds a token of the pass that all log-probs come from."""
    logits = torch.randn((CONCURRENCY, rooms.info.vocab_size))
    sampler, rule = CpuSampler(rooms.info.vocab_size), Rule.of(Sampling(max_tokens=1, seed=0))
    rows, masks = [Row(rule, 0, known=0)] * CONCURRENCY, np.zeros((1, 1), np.int32)
    spent = []
    for _ in range(50):
        started = time.process_time()
        sampler.measure(logits, rows, masks)
        spent.append(time.process_time() - started)
    return float(np.median(spent)) / CONCURRENCY
