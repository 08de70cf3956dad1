"""What the mark and the log-probs cost: the same requests with them and without, at concurrency 16.

    formwork bench watermark --tables cost

Two loops of the engine in one process, one with unmarked requests, the other with marked ones, take steps in turn, so
that whatever else the machine does falls on both alike; what counts is CPU time while all sixteen decode. Log-probs are
measured in both: what they cost is the time of that pass by itself, all of it, though a draw would have to read the
row too. Free text is the worst case: every token is marked. The random 125M-parameter model is another: its logits are
all alike, so that every token of the vocabulary may win. Nothing is guessed: marked text is another text, and how well
a text can be guessed is not the mark's cost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.engine import plan_of, requests_of
from benchmarks.random_llama import random_llama
from engine.config import EngineConfig
from engine.drawing import Row, Rule
from engine.loop import EngineLoop, Rooms
from engine.messages import Generate, Mark, Sampling
from engine.process import build
from engine.sampler import CpuSampler

CONCURRENCY, ROUNDS = 16, 6
TOKENS = {"free": 48, "schema": 112}  # the schema's shortest answer must fit


@dataclass
class Side:
    """One of the two loops, and what it spent on decoding."""

    loop: EngineLoop
    seconds: float = 0.0
    tokens: int = 0

    def begin(self, requests: Sequence[Generate]) -> None:
        """Hands the requests over and computes their prompts, which do not count."""
        self.seconds, self.tokens = 0.0, 0
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
        self.seconds += time.process_time() - started
        self.tokens += sum(len(event.tokens) for event in events if hasattr(event, "tokens"))

    @property
    def per_token(self) -> float:
        return self.seconds / max(1, self.tokens)


def costs(bundled: str, key_file: str, row: Callable[..., None]) -> None:
    """A line for each model, kind of text and scheme."""
    row("model", "text", "scheme", "CPU ms a token unmarked", "marked", "mark", "log-probs", "both", "bar 3 %")
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
                    without, with_it = _medians(sides, plain, Mark(scheme=scheme, key_id="key-0"))
                    mark, both = with_it / without - 1.0, with_it / (without - measuring) - 1.0
                    row(
                        *(name, text, scheme, f"{1e3 * without:.3f}", f"{1e3 * with_it:.3f}"),
                        *(f"{mark:+.1%}", f"{measuring / (without - measuring):+.1%}", f"{both:+.1%}"),
                        "met" if both < 0.03 else "MISSED",
                    )


def _medians(sides: tuple[Side, Side], plain: Sequence[Generate], mark: Mark) -> tuple[float, float]:
    """CPU seconds a token without the mark and with it; the first round warms up."""
    marked = [msgspec.structs.replace(each, mark=mark) for each in plain]
    spent = []
    for number in range(ROUNDS + 1):
        # The two change places after each round, should one have the better memory.
        order = sides if number % 2 else sides[::-1]
        for side, requests in zip(order, (plain, marked), strict=True):
            side.begin(requests)
        while not all(side.loop.is_idle for side in order):
            for side in order:
                side.step()
        spent.append([side.per_token for side in order])
    without, with_it = np.median(spent[1:], axis=0)
    return float(without), float(with_it)


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
