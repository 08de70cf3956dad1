"""How fast is the engine without HTTP, and where does a step's time go?

    formwork bench engine                                     # the random 125M-parameter Llama
    formwork bench engine --model models/formwork-mini        # the bundled model
    formwork bench engine --concurrency 1,16 --tokens 64
    formwork bench engine --concurrency 16 --peer             # transformers' continuous batching beside it
    formwork bench engine --host                              # the host's part alone, 131k vocabulary

The loop runs in this process (no socket, no second process), so that what is measured is scheduling, forward pass,
masks and sampling. Requests all arrive at once, free ones first, then as many under the schema, at each concurrency.
`plan` includes the guesses at forced text, `draw` the passes over the vocabulary and the matchers' steps. Free requests
ignore the end token; those under the schema end by themselves or by their budget. p50 and p99 are of the time between
tokens of one request. CPU seconds, unlike the clock's, mean about the same beside other work. The peer's
`generate_batch` answers the same prompts, greedy, so its sampling is not counted.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import transformers

import grammar
from benchmarks import engine_host
from benchmarks.random_llama import random_llama
from benchmarks.serving import SCHEMA
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import Failure, Generate, Plan, Sampling, Stats
from engine.process import build
from engine.tokenizer import Tokenizer

PROMPT_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Result:
    """One run at one concurrency."""

    tokens: int
    seconds: float
    cpu_s: float
    before: Stats
    after: Stats
    intervals: list[float]

    def row(self, name: str) -> str:
        steps = max(1, self.after.steps - self.before.steps)

        def per_step(field: str) -> float:
            spent: float = getattr(self.after, field) - getattr(self.before, field)
            return 1e3 * spent / steps

        parts = " ".join(f"{per_step(field):9.2f}" for field in ("schedule_s", "mask_s", "forward_s", "sample_s"))
        p50, p99 = (1e3 * float(np.percentile(self.intervals, q)) for q in (50, 99))
        rates = f"{self.tokens / self.seconds:9.1f} {self.tokens / self.cpu_s:9.1f}"
        return f"{name:<16} {rates} {self.tokens / steps:9.2f} {parts} {p50:9.1f} {p99:9.1f}"


HEADER = f"{'run':<16} {'tokens/s':>9} {'per CPU s':>9} {'tok/step':>9} " + " ".join(
    f"{name:>9}" for name in ("plan ms", "mask ms", "pass ms", "draw ms", "p50 ms", "p99 ms")
)


def run(loop: EngineLoop, requests: Sequence[Generate]) -> Result:
    """Drives requests to their ends; intervals are those between a request's outputs."""
    before, started, used, tokens = loop.stats(), time.perf_counter(), time.process_time(), 0
    last: dict[str, float] = {}
    intervals: list[float] = []
    for request in requests:
        loop.generate(request)
    while not loop.is_idle:
        for event in loop.step():
            if isinstance(event, Failure):
                raise SystemExit(f"{event.request_id}: {event.message}")
            now = time.perf_counter()
            if event.request_id in last:
                intervals += [(now - last[event.request_id]) / len(event.tokens or [0])] * len(event.tokens)
            last[event.request_id] = now
            tokens += len(event.tokens)
    spent = time.perf_counter() - started, time.process_time() - used
    return Result(tokens, *spent, before, loop.stats(), intervals or [0.0])


def peer_rate(folder: Path, requests: Sequence[Generate], tokens: int) -> float:
    """Output tokens per CPU second of transformers' continuous batching on a CPU, after a warm-up of its own."""
    auto: Any = transformers.AutoModelForCausalLM
    kind: Any = transformers.GenerationConfig
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    blocks = transformers.ContinuousBatchingConfig(num_blocks=80, max_batch_tokens=512)
    rate = 0.0
    for prompts, wanted in (([requests[0].prompt], 4), ([each.prompt for each in requests], tokens)):
        settings = kind(max_new_tokens=wanted, do_sample=False, eos_token_id=-1, pad_token_id=0)
        used = time.process_time()
        made = model.generate_batch(prompts, generation_config=settings, continuous_batching_config=blocks)
        rate = sum(len(each.generated_tokens) for each in made.values()) / (time.process_time() - used)
    return rate


def requests_of(count: int, tokens: int, fingerprint: str | None, greedy: bool) -> list[Generate]:
    """Prompts of random tokens, each its own; fixed seeds."""
    rng = np.random.default_rng(count)
    sampling = Sampling(max_tokens=tokens, seed=0, temperature=0.0 if greedy else 1.0, ignore_eos=True)
    return [
        Generate(
            request_id=f"{index}",
            prompt=rng.integers(300, 2000, PROMPT_TOKENS).tolist(),
            sampling=msgspec.structs.replace(sampling, seed=index),
            grammar=fingerprint,
        )
        for index in range(count)
    ]


def plan_of(folder: Path, width: int, ends: Sequence[int]) -> Plan:
    """The schema, compiled as the service compiles it."""
    tokenizer = Tokenizer.load(folder)
    vocabulary = grammar.Vocabulary(tokenizer.padded_bytes(width), list(ends), tokenizer.special_tokens)
    made = grammar.compile_json_schema(SCHEMA, vocabulary, property_order="schema", whitespace="spaced")
    return Plan(made.fingerprint, made.to_bytes())


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Prints a table."""
    config = EngineConfig(
        model=str(folder), threads=options.threads, cache_bytes=1 << 30, speculate=0 if options.no_drafts else 16
    )
    rooms = build(config)
    loop = EngineLoop(rooms, time.monotonic)
    plan = plan_of(folder, rooms.info.vocab_size, rooms.info.eos_token_ids)
    loop.load_grammar(plan)
    cpu = platform.processor() or platform.machine()
    print(
        f"{rooms.info.parameters / 1e6:.1f}M parameters, {rooms.info.dtype}, {cpu}, torch {torch.__version__}, "
        f"{options.threads} thread(s), {PROMPT_TOKENS} in / {options.tokens} out, seeds fixed"
    )
    run(loop, requests_of(2, 16, plan.fingerprint if options.tokens >= 64 else None, options.greedy))  # warm-up
    print(HEADER)
    for concurrency in (int(part) for part in options.concurrency.split(",")):
        for name, fingerprint in (("free", None), ("schema", plan.fingerprint)):
            result = run(loop, requests_of(concurrency, options.tokens, fingerprint, options.greedy))
            print(result.row(f"{name} x {concurrency}"), flush=True)
        if options.peer:
            rate = peer_rate(folder, requests_of(concurrency, options.tokens, None, greedy=True), options.tokens)
            print(f"{f'transformers x {concurrency}':<26} {rate:9.1f}  ({transformers.__version__})", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--host" in given:
        return engine_host.main([each for each in given if each != "--host"])
    parser = argparse.ArgumentParser(prog="formwork bench engine", description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder; default: the random 125M Llama, made for the run")
    parser.add_argument("--concurrency", default="1,16,64")
    parser.add_argument("--tokens", type=int, default=128, help="output tokens at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--greedy", action="store_true", help="temperature 0 instead of 1")
    parser.add_argument("--peer", action="store_true", help="transformers' continuous batching, too")
    parser.add_argument("--no-drafts", action="store_true", help="do not guess at forced text")
    parser.add_argument(
        "--host", action="store_true", help="the host's part alone, with options of its own: --host --help"
    )
    options = parser.parse_args(given)
    if options.model is not None:
        measure(Path(options.model), options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        measure(random_llama(Path(folder)), options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
