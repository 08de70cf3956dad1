"""What does the host do in a decode step, and for how long? A 131k vocabulary, no model, half of it constrained.

    formwork bench engine --host
    python -m benchmarks.engine_host --batch 16,64 --steps 60

The loop, scheduler, matchers, masks, sampler and events are the service's own; only the forward pass is replaced by
rows of logits made beforehand, whose own time is left out. Every step decodes one token of each request (no drafts):
half of them free, half under the schema, at temperature 1. Times are CPU time of the process (other work on the machine
does not count), median and 99th percentile of the steps. `host` is all but `passes`, which are the compiled passes over
the vocabulary (log-sum-exp and draw); their bandwidth stands beside that of a plain sum over the same rows in the same
run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

import grammar
from benchmarks.grammar_engines import END, load_tokenizer
from benchmarks.serving import SCHEMA
from engine import sampler
from engine.admission import Admission
from engine.batch import StepBatch
from engine.generation import Spelling
from engine.grammars import GrammarStore
from engine.kernels import nan_free
from engine.loop import EngineLoop, Rooms
from engine.messages import Batch, Failure, Generate, ModelInfo, Plan, Sampling
from engine.pages import PagePool
from engine.process import quieten_collector
from engine.sampler import CpuSampler
from engine.scheduler import Scheduler
from engine.wire import engine_side

_PROMPT = 128
_PAGE = 16


class LogitsRunner:
    """Implements `engine.batch.Runner`: rows of a fixed random matrix."""

    def __init__(self, width: int, most_rows: int) -> None:
        self.info = ModelInfo(
            model_type="none",
            vocab_size=width,
            max_positions=4096,
            eos_token_ids=[END],
            dtype="float32",
            device="cpu",
            page_size=_PAGE,
            pages=4096,
            parameters=0,
        )
        rng = np.random.default_rng(0)
        self.logits = torch.from_numpy(rng.standard_normal((most_rows, width), np.float32) * 3)

    def run(self, batch: StepBatch) -> torch.Tensor:
        return self.logits[: len(batch.logit_rows)]

    def copy_page(self, source: int, target: int) -> None:
        pass


@dataclass
class Samples:
    """CPU milliseconds of each step."""

    phases: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        self.phases.setdefault(name, []).append(1e3 * seconds)

    def told(self, name: str) -> str:
        p50, p99 = np.percentile(self.phases[name], [50, 99])
        return f"{p50:6.2f} /{p99:6.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="formwork bench engine --host", description=__doc__.splitlines()[0])
    parser.add_argument("--batch", default="1,16,64", help="running requests, comma-separated")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm", type=int, default=150, help="steps before those that count: masks are then known")
    parser.add_argument("--top-p", type=float, default=1.0)
    options = parser.parse_args(arguments)
    tokens = load_tokenizer().tokens
    vocabulary = grammar.Vocabulary(tokens, [END])
    grammar.warm(vocabulary)
    sampler.warm()
    plan_of = grammar.compile_json_schema(SCHEMA, vocabulary, property_order="schema", whitespace="spaced")
    plan = Plan(plan_of.fingerprint, plan_of.to_bytes())
    print(f"vocabulary {len(tokens)}, half free and half constrained, top_p {options.top_p:g}, CPU ms p50 / p99")
    names = ("schedule", "mask", "conclude", "send", "host", "passes")
    print(f"{'batch':>5} " + " ".join(f"{name:>15}" for name in names) + f" {'passes GB/s':>12} {'plain sum':>10}")
    for batch in (int(each) for each in options.batch.split(",")):
        runner = LogitsRunner(len(tokens), batch)
        loop = _loop(runner, vocabulary, batch)
        loop.load_grammar(plan)
        quieten_collector()
        samples = _measure(loop, plan.fingerprint, batch, options)
        size = batch * len(tokens) * 4
        rate = size / np.median(samples.phases["passes"]) / 1e6
        print(
            f"{batch:>5} "
            + " ".join(f"{samples.told(name):>15}" for name in names)
            + f" {rate:12.1f} {_bandwidth(runner.logits.numpy()):10.1f}",
            flush=True,
        )
    return 0


def _loop(runner: LogitsRunner, vocabulary: grammar.Vocabulary, batch: int) -> EngineLoop:
    info = runner.info
    scheduler = Scheduler(
        PagePool(info.pages, info.page_size),
        max_batch_tokens=4096,
        max_sequences=batch,
        max_waiting=256,
        max_rows=256,
    )
    admission = Admission(
        grammars=GrammarStore(lambda data: grammar.load_grammar(data, vocabulary), 1 << 30),
        spelling=Spelling(list(vocabulary.tokens), frozenset(info.eos_token_ids)),
        key_ring=None,
        capacity=info.max_positions,
    )
    return EngineLoop(Rooms(info, runner, scheduler, CpuSampler(info.vocab_size), admission), time.process_time)


def _measure(loop: EngineLoop, fingerprint: str, batch: int, options: argparse.Namespace) -> Samples:
    """Steps in which all of the batch decode; requests that end are replaced."""
    wire, samples, made = engine_side("secret"), Samples(), 0
    rng = np.random.default_rng(1)
    steady = 0
    while steady < options.steps + options.warm:
        running = loop.stats().running + loop.stats().waiting
        for _ in range(batch - running):
            loop.generate(_request(made, rng.integers(1000, 9000, _PROMPT).tolist(), fingerprint, options))
            made += 1
        before, start = loop.stats(), time.process_time()
        events = loop.step()
        stepped = time.process_time()
        wire.frames(Batch(events))
        sent = time.process_time()
        after = loop.stats()
        for event in events:
            if isinstance(event, Failure):
                raise SystemExit(f"{event.request_id}: {event.message}")
        if after.generated_tokens - before.generated_tokens != batch or after.prefill_tokens != before.prefill_tokens:
            continue
        steady += 1
        if steady <= options.warm:
            continue
        passes = after.sample_s - before.sample_s
        forward = after.forward_s - before.forward_s  # what stands in for a model
        samples.add("schedule", after.schedule_s - before.schedule_s)
        samples.add("mask", after.mask_s - before.mask_s)
        samples.add("conclude", after.conclude_s - before.conclude_s)
        samples.add("passes", passes)
        samples.add("send", sent - stepped)
        samples.add("host", sent - start - passes - forward)
    return samples


def _request(number: int, prompt: list[int], fingerprint: str, options: argparse.Namespace) -> Generate:
    sampling = Sampling(max_tokens=200, seed=number, temperature=1.0, top_p=options.top_p, ignore_eos=True)
    return Generate(
        request_id=f"request-{number}",
        prompt=prompt,
        sampling=sampling,
        grammar=fingerprint if number % 2 else None,
    )


@nan_free
def _sum(rows: np.ndarray) -> np.float32:
    total = np.float32(0.0)
    for row in range(rows.shape[0]):
        for token in range(rows.shape[1]):
            total += rows[row, token]
    return total


def _bandwidth(rows: np.ndarray) -> float:
    """GB/s of one core that reads every value once."""
    _sum(rows)
    best = min(_timed(rows) for _ in range(5))
    return float(rows.nbytes / best / 1e9)


def _timed(rows: np.ndarray) -> float:
    start = time.process_time()
    _sum(rows)
    return time.process_time() - start


if __name__ == "__main__":
    raise SystemExit(main())
