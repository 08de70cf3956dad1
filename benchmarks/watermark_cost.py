"""What the mark costs: the same requests with it and without, through the engine's own loop, at concurrency 16.

    formwork bench watermark --tables cost

CPU time of the whole process, runs alternating, the median of each: what else the machine does hardly shows. Log-probs
of the chosen tokens are measured in both (the engine always does). Free text is the worst case: every token is marked.
The random 125M-parameter model is another: its logits are all alike, so that every token of the vocabulary may win.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.engine import plan_of, requests_of
from benchmarks.random_llama import random_llama
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import Generate, Mark
from engine.process import build

CONCURRENCY, RUNS = 16, 3
TOKENS = {"free": 48, "schema": 112}  # the schema's shortest answer must fit


def costs(bundled: str, key_file: str, row: Callable[..., None]) -> None:
    """A line for each model, kind of text and scheme."""
    row("model", "text", "scheme", "CPU ms a token unmarked", "marked", "cost", "bar 3 %")
    with tempfile.TemporaryDirectory() as place:
        for name, folder in (("random 125M", random_llama(Path(place))), (Path(bundled).name, Path(bundled))):
            rooms = build(EngineConfig(model=str(folder), threads=1, cache_bytes=1 << 29, watermark_key_file=key_file))
            loop = EngineLoop(rooms, time.monotonic)
            plan = plan_of(folder, rooms.info.vocab_size, rooms.info.eos_token_ids)
            loop.load_grammar(plan)
            for text, fingerprint in (("free", None), ("schema", plan.fingerprint)):
                for scheme in ("gumbel", "kgw"):
                    plain = requests_of(CONCURRENCY, TOKENS[text], fingerprint, scheme == "kgw")
                    marked = [msgspec.structs.replace(each, mark=Mark(scheme=scheme, key_id="key-0")) for each in plain]
                    without, with_it = _medians(loop, {"plain": plain, "marked": marked})
                    cost = with_it / without - 1.0
                    row(
                        *(name, text, scheme, f"{1e3 * without:.3f}", f"{1e3 * with_it:.3f}", f"{cost:+.1%}"),
                        "met" if cost < 0.03 else "MISSED",
                    )


def _medians(loop: EngineLoop, runs: Mapping[str, Sequence[Generate]]) -> list[float]:
    """CPU seconds a token; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS + 1):
        for name, requests in runs.items():
            started, tokens = time.process_time(), 0
            for request in requests:
                loop.generate(request)
            while not loop.is_idle:
                tokens += sum(len(event.tokens) for event in loop.step() if hasattr(event, "tokens"))
            seconds[name].append((time.process_time() - started) / max(1, tokens))
    return [float(np.median(each[1:])) for each in seconds.values()]
