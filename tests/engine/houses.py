"""Loops put together for tests, and what a request gives when it is driven to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from engine.adapters import AdapterStore
from engine.admission import Admission
from engine.batch import Runner
from engine.draft_model import DraftModel
from engine.generation import Spelling
from engine.grammars import GrammarStore
from engine.loop import EngineLoop, Rooms
from engine.mask_helper import MaskHelper
from engine.messages import Failure, Finish, Generate, Output, Sampling, Token
from engine.pages import PagePool
from engine.sampler import CpuSampler
from engine.scheduler import Scheduler
from engine.speculation import Drafter, Endings, ForcedText, Speculation, StepCost
from engine.speculation.lookup import without_blank
from engine.speculation.speculation import Seer
from grammar import Grammar
from tests.engine.slots import SlotRunner
from watermark import KeyRing

RING = KeyRing({"test": bytes(range(32))})


@dataclass
class Clock:
    """Time that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """A loop with everything it works with."""

    runner: Runner
    scheduler: Scheduler
    loop: EngineLoop
    clock: Clock


@dataclass
class Answer:
    """All that came of one request."""

    tokens: list[Token] = field(default_factory=list)
    finish: Finish | None = None
    failure: Failure | None = None
    outputs: list[Output] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]


def house(
    runner: Runner | None = None,
    *,
    spelling: list[bytes] | None = None,
    grammars: GrammarStore | None = None,
    max_batch_tokens: int = 16,
    max_sequences: int = 4,
    max_waiting: int = 100,
    sharing: bool = True,
    drafter: Drafter | None = None,
    seer: Seer | None = None,
    drafting: Runner | None = None,
    helper: MaskHelper | None = None,
    adapters: AdapterStore | None = None,
) -> House:
    """A loop over a runner (by default one without a model)."""
    runner = runner or SlotRunner()
    info = runner.info
    scheduler = Scheduler(
        PagePool(info.pages, info.page_size),
        max_batch_tokens=max_batch_tokens,
        max_sequences=max_sequences,
        max_waiting=max_waiting,
        max_rows=64,
        sharing=sharing,
    )
    admission = Admission(
        grammars=grammars or GrammarStore(_no_grammars, 1 << 20),
        spelling=Spelling(
            spelling or [bytes([index % 256]) for index in range(info.vocab_size)], frozenset(info.eos_token_ids)
        ),
        key_ring=RING,
        capacity=min(info.max_positions, scheduler.capacity),
        drafter=drafter,
        adapters=adapters,
    )
    clock = Clock()
    speculation = None if drafter is None else Speculation(drafter, StepCost((), clock), seer)
    model = None if drafting is None else DraftModel(drafting, CpuSampler(info.vocab_size), info.vocab_size, 6)
    rooms = Rooms(info, runner, scheduler, CpuSampler(info.vocab_size), admission, speculation, model)
    loop = EngineLoop(rooms, clock, helper)
    return House(runner, scheduler, loop, clock)


def drafter(spelling: list[bytes], encode: Callable[[str], list[int]] | None = None, most: int = 16) -> Drafter:
    """Guesses by lookup, and of forced text if there is a tokenizer; id 0 ends."""
    forced = None if encode is None else ForcedText(encode)
    endings = Endings(spelling, forced) if forced else None
    return Drafter(most, frozenset({0}), forced, endings, without_blank(spelling))


def _no_grammars(_data: bytes) -> Grammar:
    raise ValueError("no grammars in this test")


def request(request_id: str = "r", prompt: Iterable[int] = (1, 2, 3), **sampling: object) -> Generate:
    """A request with a few sampling parameters; 8 tokens at most, greedy and seed 0 unless said otherwise."""
    settings = {"max_tokens": 8, "seed": 0, "temperature": 0.0, **sampling}
    return Generate(request_id=request_id, prompt=list(prompt), sampling=Sampling(**settings))  # type: ignore[arg-type]


def drive(house: House, requests: Iterable[Generate], most_steps: int = 5000) -> dict[str, Answer]:
    """Runs requests that arrive together to their ends, checking the pages after every step."""
    answers: dict[str, Answer] = {}
    for one in requests:
        answers[one.request_id] = Answer()
        note(answers, house.loop.generate(one))
    for _ in range(most_steps):
        if house.loop.is_idle:
            return answers
        note(answers, house.loop.step())
        house.scheduler.pool.check()
    raise AssertionError("the loop does not come to an end")


def note(answers: dict[str, Answer], events: Iterable[Output | Failure]) -> None:
    """Adds events to the answers, checking that no token is lost or repeated and nothing follows the end."""
    for event in events:
        answer = answers[event.request_id]
        assert answer.finish is None
        assert answer.failure is None
        if isinstance(event, Failure):
            answer.failure = event
            continue
        if answer.outputs:
            assert event.first == answer.outputs[-1].first + len(answer.outputs[-1].tokens)
        answer.outputs.append(event)
        answer.tokens += event.tokens
        answer.finish = event.finish
