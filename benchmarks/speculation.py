"""What do verified guesses save? The same requests with speculation and without, turn by turn in one process.

    formwork bench speculation                          # the bundled model: extraction, tool calls, free text
    formwork bench speculation --temperature 1
    formwork bench speculation --proposers grammar      # who guesses; default: all
    formwork bench speculation --jump                   # forced text taken as it is usually spelled, undrawn
    formwork bench speculation --model random           # the random 125M Llama: nothing to guess

Extraction: held-out texts with as many schemas, the service's defaults of order and whitespace. Tool calls: the JSON of
one call, its tools in the prompt. Free text: chat and stories. All prompts are made by the bundled model's own
generators, none was trained on. Two engine loops run each group of requests one after the other, in changing order, so
that whatever else the machine does falls on both; every answer is compared, token by token (with `--jump` they may
differ, and the last column says how many do). `latency` is the mean wall
time of a request from arrival to end, `cpu` the process's time; both of the engine with speculation over the one
without (lower is better). `steps/token` counts the passes behind the prompt's.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

import grammar
from benchmarks.random_llama import random_llama
from engine.config import EngineConfig, Proposer
from engine.loop import EngineLoop
from engine.messages import Failure, Finish, Generate, Plan, Sampling
from engine.process import build, mask_helper
from engine.speculation import StepCost
from engine.tokenizer import Tokenizer
from models.training.conversation import chat, story, tool_use
from models.training.data import held_out_extractions
from models.training.words import Draw
from service.chat import ChatTemplate, Conversation

_BUNDLED = Path(__file__).parent.parent / "models" / "formwork-mini"
_CALL = "<tool_call>\n"  # what an answer that calls begins with


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and what may follow: a value under a schema, or calls of tools."""

    prompt: list[int]
    schema: dict[str, Any] | bool | None = None
    tools: Sequence[Any] = ()


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


class Bench:
    """The two engines over one model."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.tokenizer = Tokenizer.load(folder)
        template = self.tokenizer.chat_template
        assert template is not None
        self.template = ChatTemplate(template, self.tokenizer)
        self.folder, self.options = folder, options
        self.plans: dict[str, Plan] = {}
        self.cost = StepCost()
        self.loops = {name: self._loop(guesses) for name, guesses in (("with", options.guesses), ("without", 0))}

    def _loop(self, guesses: int) -> EngineLoop:
        config = EngineConfig(
            model=str(self.folder),
            threads=self.options.threads,
            cache_bytes=1 << 29,
            device="cpu",
            prefix_sharing=False,  # the warm-up's prompts would be known
            speculate=guesses,
            proposers=tuple(self.options.proposers.split(",")),
        )
        rooms = build(config)
        self.cost = rooms.speculation.cost if rooms.speculation else self.cost
        ends = rooms.info.eos_token_ids
        self.vocabulary = grammar.Vocabulary(
            self.tokenizer.padded_bytes(rooms.info.vocab_size), ends, self.tokenizer.special_tokens
        )
        return EngineLoop(rooms, time.perf_counter, mask_helper(rooms.info.device))

    def plan(self, question: Question) -> str | None:
        """The grammar's name, known to both engines."""
        schema, tools = question.schema, list(question.tools)
        if schema is None and not tools:
            return None
        key = json.dumps([schema, tools])
        if key not in self.plans:
            spelled: Any = {"property_order": "schema", "whitespace": "spaced"}
            made = (
                grammar.compile_tools(tools, self.vocabulary, choice="required", **spelled)
                if schema is None
                else grammar.compile_json_schema(schema, self.vocabulary, **spelled)
            )
            self.plans[key] = Plan(made.fingerprint, made.to_bytes())
        for loop in self.loops.values():
            loop.load_grammar(self.plans[key])
        return self.plans[key].fingerprint

    def compare(self, name: str, questions: Sequence[Question], concurrency: int) -> str:
        """One row of the table."""
        engines = {which: Engine(loop) for which, loop in self.loops.items()}
        for number, group in enumerate(_groups(questions, 2 * concurrency)):
            requests = [self._request(f"{number}.{place}", each) for place, each in enumerate(group)]
            order = ("with", "without") if number % 2 else ("without", "with")
            for which in order:
                jumping = self.options.jump and which == "with"
                engines[which].run([_jumping(each) if jumping else each for each in requests], concurrency)
        fast, slow = engines["with"], engines["without"]
        others = sum(answer != slow.answers[name] for name, answer in fast.answers.items())
        if others and not self.options.jump:
            raise SystemExit(f"{name}: an answer differs")
        latency = sum(fast.latency_s) / sum(slow.latency_s)
        return (
            f"{name:<11} {concurrency:>4} {fast.tokens:>7} {fast.steps / fast.tokens:>6.3f} "
            f"{slow.steps / slow.tokens:>6.3f} {1e3 * np.mean(fast.latency_s):>8.1f} "
            f"{1e3 * np.mean(slow.latency_s):>8.1f} {latency:>6.2f} {1 / latency:>6.2f}x "
            f"{fast.cpu_s / slow.cpu_s:>6.2f}" + (f" {others:>4}/{len(questions)}" if self.options.jump else "")
        )

    def _request(self, name: str, question: Question) -> Generate:
        sampling = Sampling(
            max_tokens=self.options.tokens,
            seed=random.Random(name).getrandbits(32),
            temperature=self.options.temperature,
            ignore_eos=self.options.model == "random",
        )
        return Generate(request_id=name, prompt=question.prompt, sampling=sampling, grammar=self.plan(question))

    # Workloads

    def extraction(self, count: int) -> list[Question]:
        asked = held_out_extractions(count, 77)
        return [
            Question(
                self.template.prompt(Conversation(messages=list(each.messages), response_format=each.response_format)),
                each.schema,
            )
            for each in asked
        ]

    def tools(self, count: int) -> list[Question]:
        draw, found = Draw(random.Random(78), held_out=True), list[Question]()
        while len(found) < count:
            turn = tool_use(draw)
            if not turn.answer.startswith(_CALL):
                continue
            conversation = Conversation(messages=list(turn.messages), tools=list(turn.tools))
            found.append(Question(self.template.prompt(conversation), tools=turn.tools))
        return found

    def text(self, count: int) -> list[Question]:
        draw = Draw(random.Random(79), held_out=True)
        return [
            Question(self.template.prompt(Conversation(messages=list(make(draw).messages))))
            for make in (chat, story)
            for _ in range(count // 2)
        ]


def _jumping(request: Generate) -> Generate:
    return request if request.grammar is None else msgspec.structs.replace(request, jump=True)


def _groups(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


@cache
def header() -> str:
    return (
        f"{'workload':<11} {'at':>4} {'tokens':>7} {'steps/token':>13} {'ms a request':>17} "
        f"{'latency':>14} {'cpu':>6}\n{'':<25}{'with':>6} {'off':>6} {'with':>8} {'off':>8}"
    )


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Prints the table."""
    bench = Bench(folder, options)
    growth = bench.cost.growth(1, 1, 15)
    print(f"{folder.name}, temperature {options.temperature:g}, {options.guesses} guesses by {options.proposers}")
    made = {name: getattr(bench, name)(options.count) for name in options.workloads.split(",")}
    for questions in made.values():  # masks, kernels and rates warm up on both sides
        bench.compare("warm-up", questions[:8], 1)

    told = ", ".join(f"{positions}: {growth[positions - 1]:.2f}" for positions in (2, 4, 8, 16))
    print(f"a pass over so many positions of one sequence, against one position, as measured at start: {told}")
    print(header())
    for concurrency in (int(part) for part in options.concurrency.split(",")):
        for name, questions in made.items():
            print(bench.compare(name, questions, concurrency), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry."""
    parser = argparse.ArgumentParser(prog="formwork bench speculation", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(_BUNDLED), help="a folder, or random")
    parser.add_argument("--workloads", default="extraction,tools,text")
    parser.add_argument("--concurrency", default="1,16")
    parser.add_argument("--count", type=int, default=64, help="requests of each workload")
    parser.add_argument("--tokens", type=int, default=160, help="output tokens at most")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--guesses", type=int, default=16)
    parser.add_argument("--proposers", default=",".join(get_args(Proposer)))
    parser.add_argument("--jump", action="store_true", help="take forced text undrawn")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.model != "random":
        measure(Path(options.model), options)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        measure(random_llama(Path(folder)), options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
