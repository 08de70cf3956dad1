"""What do verified guesses save? The same requests with speculation and without, turn by turn in one process.

    formwork bench speculation                          # the bundled model: extraction, tool calls, free text
    formwork bench speculation --temperature 1
    formwork bench speculation --proposers grammar      # who guesses; default: all
    formwork bench speculation --draft-model FOLDER     # or --heads FOLDER
    formwork bench speculation --jump                   # forced text taken as it is usually spelled, undrawn
    formwork bench speculation --model random           # the random 125M Llama: nothing to guess
    formwork bench speculation --device cuda --dtype float32 --no-graphs

Extraction: held-out texts with as many schemas, the service's defaults of order and whitespace. Tool calls: the JSON of
one call, its tools in the prompt. Free text: chat and stories. All prompts are made by the bundled model's own
generators, none was trained on. Two engine loops run each group of requests one after the other, in changing order, so
that whatever else the machine does falls on both; every answer is compared, token by token. On a CPU one that differs
ends the run; with `--jump`, and on a GPU, whose matrix products round by their number of rows, a column counts them.
`latency` is the mean wall time of a request from arrival to end, `cpu` the process's time; both of the engine with
speculation over the one without (lower is better). `steps/token` counts the passes behind the prompt's. A pass's time
is the process's on a CPU. The last table: guesses that were verified, and how many of them were drawn, by who guessed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from benchmarks.random_llama import random_llama
from benchmarks.speculation_questions import BUNDLED, WORKLOADS, Asking, Question
from engine.batch import Piece, Runner, StepBatch, pack
from engine.config import EngineConfig, Proposer
from engine.loop import EngineLoop
from engine.messages import Failure, Finish, Generate, Sampling
from engine.process import build
from engine.speculation import Source, cost_clock

_CONTEXT = 200  # tokens before the positions of a timed pass


@dataclass
class Engine:
    """One loop, and what it took."""

    loop: EngineLoop
    wall_s: float = 0.0
    cpu_s: float = 0.0
    latency_s: list[float] = field(default_factory=list)
    steps: int = 0
    tokens: int = 0
    answers: dict[str, list[int]] = field(default_factory=dict)
    finishes: list[Finish] = field(default_factory=list)

    def run(self, requests: Sequence[Generate], concurrency: int) -> None:
        """All of them, so many at a time."""
        began: dict[str, float] = {}
        waiting, steps = list(reversed(requests)), self.loop.stats().steps
        start, cpu = time.perf_counter(), time.process_time()
        while waiting or not self.loop.is_idle:
            while waiting and len(began) < concurrency:
                request = waiting.pop()
                began[request.request_id] = time.perf_counter()
                self.answers[request.request_id] = []
                self.loop.generate(request)
            for event in self.loop.step():
                if isinstance(event, Failure):
                    raise SystemExit(f"{event.request_id}: {event.message}")
                self.answers[event.request_id] += [token.token_id for token in event.tokens]
                self.tokens += len(event.tokens)
                if event.finish is not None:
                    self.latency_s.append(time.perf_counter() - began.pop(event.request_id))
                    self.finishes.append(event.finish)
        self.wall_s += time.perf_counter() - start
        self.cpu_s += time.process_time() - cpu
        self.steps += self.loop.stats().steps - steps

    @property
    def steps_a_token(self) -> float:
        return self.steps / self.tokens

    @property
    def ms(self) -> float:
        """A request's, in the mean."""
        return float(1e3 * np.mean(self.latency_s))

    def guesses(self) -> dict[str, tuple[int, int]]:
        """Of each proposer: verified, drawn."""
        verified, drawn = Counter[str](), Counter[str]()
        for finish in self.finishes:
            for each in finish.guessed:
                verified[each.proposer] += each.proposed
                drawn[each.proposer] += each.accepted
        return {name: (verified[name], drawn[name]) for name in verified}


@dataclass(frozen=True, slots=True)
class Compared:
    """One workload at one concurrency, by both engines."""

    name: str
    concurrency: int
    fast: Engine
    slow: Engine

    @property
    def others(self) -> int:
        """Answers that differ."""
        return sum(answer != self.slow.answers[name] for name, answer in self.fast.answers.items())

    def cost(self) -> str:
        """A row of the first table."""
        fast, slow = self.fast, self.slow
        latency = sum(fast.latency_s) / sum(slow.latency_s)
        return (
            f"{self.name:<11} {self.concurrency:>3} {fast.tokens:>7} "
            f"{fast.steps_a_token:>7.3f} {slow.steps_a_token:>6.3f} {fast.ms:>8.1f} {slow.ms:>8.1f} "
            f"{latency:>7.2f} {1 / latency:>6.2f}x {fast.cpu_s / slow.cpu_s:>6.2f} {self.others:>4}/{len(fast.answers)}"
        )

    def acceptance(self) -> str:
        """A row of the second."""
        told, row = self.fast.guesses(), f"{self.name:<11} {self.concurrency:>3}"
        for source in Source:
            verified, drawn = told.get(source, (0, 0))
            row += f" {verified:>7} {drawn / verified:>5.0%}" if verified else f" {'–':>7} {'':>5}"
        return row + f" {sum(drawn for _, drawn in told.values()) / self.fast.tokens:>9.0%}"


COST_HEADER = (
    f"{'workload':<11} {'at':>3} {'tokens':>7} {'steps/token':>14} {'ms a request':>17} "
    f"{'latency':>15} {'cpu':>6} differ\n{'':<23}{'with':>7} {'off':>6} {'with':>8} {'off':>8}"
)
ACCEPTANCE_HEADER = f"{'guesses':<15}" + "".join(f"{source.value:>14}" for source in Source) + f" {'of tokens':>10}"


def passes(runner: Runner, device: str) -> str:
    """Milliseconds of a forward pass behind 200 tokens each, by sequences and positions of each; the least of some."""
    each = (1, 2, 4, 8, 17)
    rows = [f"{'ms a pass, positions each':<26}" + "".join(f"{count:>8}" for count in each)]
    for sequences in (1, 4, 16):
        times = [_ms(runner, _step(sequences, count, runner.info.page_size), device) for count in each]
        rows.append(f"  {sequences:<2} sequences{'':<12}" + "".join(f"{ms:>8.3f}" for ms in times))
    return "\n".join(rows)


def _ms(runner: Runner, batch: StepBatch, device: str, repeats: int = 15) -> float:
    clock = cost_clock(device)
    times = []
    for _ in range(repeats):
        start = clock()
        runner.run(batch)[:1, :1].cpu()  # waits for a device
        times.append(clock() - start)
    return 1e3 * min(times)


def _step(sequences: int, each: int, page_size: int) -> StepBatch:
    """Whatever the pages hold."""
    held = -(-(_CONTEXT + each) // page_size)
    pages = [range(held * at, held * (at + 1)) for at in range(sequences)]
    return pack([Piece(_CONTEXT, [5] * each, own, each) for own in pages], page_size)


class Bench:
    """The two engines over one model."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        rooms = {
            name: build(self._config(folder, guesses)) for name, guesses in (("with", options.guesses), ("off", 0))
        }
        self.asking = Asking(folder, rooms)
        self.passes = passes(rooms["with"].runner, options.device)

    def _config(self, folder: Path, guesses: int) -> EngineConfig:
        options = self.options
        return EngineConfig(
            model=str(folder),
            threads=options.threads,
            cache_bytes=1 << 29,
            device=options.device,
            dtype=options.dtype,
            cuda_graphs=not options.no_graphs,
            prefix_sharing=False,  # the warm-up's prompts would be known
            speculate=guesses,
            proposers=tuple(options.proposers.split(",")),
            heads=options.heads if guesses else None,
            draft_model=options.draft_model if guesses else None,
        )

    def compare(self, name: str, questions: Sequence[Question], concurrency: int) -> Compared:
        """Both engines over the same requests."""
        engines = {which: Engine(loop) for which, loop in self.asking.loops.items()}
        for number, group in enumerate(_groups(questions, 2 * concurrency)):
            requests = [self._request(f"{number}.{place}", each) for place, each in enumerate(group)]
            order = ("with", "off") if number % 2 else ("off", "with")
            for which in order:
                jumping = self.options.jump and which == "with"
                engines[which].run([_jumping(each) if jumping else each for each in requests], concurrency)
        compared = Compared(name, concurrency, engines["with"], engines["off"])
        if compared.others and self.options.device == "cpu" and not self.options.jump:
            raise SystemExit(f"{name}: an answer differs")
        return compared

    def _request(self, name: str, question: Question) -> Generate:
        sampling = Sampling(
            max_tokens=self.options.tokens,
            seed=random.Random(name).getrandbits(32),
            temperature=self.options.temperature,
            ignore_eos=self.options.model == "random",
        )
        return self.asking.request(name, question, sampling)


def _jumping(request: Generate) -> Generate:
    return request if request.grammar is None else msgspec.structs.replace(request, jump=True)


def _groups(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Prints the tables."""
    bench = Bench(folder, options)
    guessing = [*options.proposers.split(","), *(["a draft model"] if options.draft_model else [])]
    print(f"{folder.name}, temperature {options.temperature:g}, {options.guesses} guesses by {', '.join(guessing)}")
    made = {name: WORKLOADS[name](bench.asking.template, options.count) for name in options.workloads.split(",")}
    for name, questions in made.items():  # masks, kernels and rates warm up on both sides
        bench.compare(name, questions[:8], 1)

    print(f"{bench.passes}\n\n{COST_HEADER}")
    rows = []
    for concurrency in (int(part) for part in options.concurrency.split(",")):
        for name, questions in made.items():
            rows.append(bench.compare(name, questions, concurrency))
            print(rows[-1].cost(), flush=True)
    print(f"\n{ACCEPTANCE_HEADER}")
    for row in rows:
        print(row.acceptance())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry."""
    parser = argparse.ArgumentParser(prog="formwork bench speculation", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(BUNDLED), help="a folder, or random")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--concurrency", default="1,16")
    parser.add_argument("--count", type=int, default=64, help="requests of each workload")
    parser.add_argument("--tokens", type=int, default=160, help="output tokens at most")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--guesses", type=int, default=16)
    parser.add_argument("--proposers", default=",".join(get_args(Proposer)))
    parser.add_argument("--heads", help="a folder with Medusa heads; default: the model's own")
    parser.add_argument("--draft-model", help="a folder with a smaller model of the same vocabulary")
    parser.add_argument("--jump", action="store_true", help="take forced text undrawn")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--no-graphs", action="store_true", help="on CUDA: launch every pass operation by operation")
    options = parser.parse_args(arguments)
    if options.model != "random":
        measure(Path(options.model), options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        measure(random_llama(Path(folder)), options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
