"""The engine's loop: commands in, steps, events out.

What it is for: the one writer of sequences, pages, grammars and queues. What may not enter: sockets, processes, how
anything is computed.

The idea: `step` is its own summary. Whatever goes wrong with one request (a dead end, a NaN, a defect of ours) ends
that request with a typed failure, and the others do not notice; only a failing forward pass ends the process, and the
client then starts another and resumes every request.

The masks of a step are filled while its forward pass runs: on an accelerator by this thread, which launches the pass
and does not wait for it; on a CPU by a helper thread, if there is one and it is worth it. While the helper fills, this
thread touches nothing but the runner, so there is still one writer at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial

import msgspec
import torch

from engine.admission import Admission
from engine.batch import Runner
from engine.draft_model import DraftModel
from engine.drawing import Row, Sampler
from engine.errors import DeadlineExceeded, EngineError, EngineOverloaded, EngineUnavailable, InvalidRequest
from engine.generation import Generation
from engine.mask_helper import MaskHelper
from engine.masks import MaskRows
from engine.measures import Measures
from engine.messages import ErrorCode, Failure, Finish, FinishReason, Generate, ModelInfo, Output, Plan, Stats, Token
from engine.scheduler import Part, Scheduler, StepPlan
from engine.sequence import Sequence
from engine.speculation import Source, Speculation, Speculator

logger = logging.getLogger(__name__)

StepEvent = Output | Failure

_SAFE = 0.5  # a prompt's last pass is wide already: what is likely goes along


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the loop works with; made in the composition root."""

    info: ModelInfo  # with all end tokens, the tokenizer's included
    runner: Runner
    scheduler: Scheduler
    sampler: Sampler
    admission: Admission
    speculation: Speculation | None = None
    draft_model: DraftModel | None = None


Constrained = tuple[list[Row], dict[Sequence, Exception]]


class EngineLoop:
    """Driven by one thread. `clock` is monotonic seconds; `helper` may fill masks during the forward pass."""

    def __init__(self, rooms: Rooms, clock: Callable[[], float], helper: MaskHelper | None = None) -> None:
        self._helper = helper
        self._info = rooms.info
        self._runner = rooms.runner
        self._scheduler = rooms.scheduler
        self._sampler = rooms.sampler
        self._admission = rooms.admission
        self._speculation = rooms.speculation
        self._draft_model = rooms.draft_model
        self._ends: list[tuple[Speculator, int]] = []  # of the step: who goes on from which row
        self._clock = clock
        self._generations: dict[str, Generation] = {}
        self._masks = MaskRows(rooms.info.vocab_size)
        self._measures = Measures()
        self._landed_at = 0.0  # when the step's tokens were there
        self._arrivals = 0
        self._draining = False

    # Commands

    def load_grammar(self, plan: Plan) -> None:
        """A plan that cannot be loaded is logged; the request that names it will fail as of unknown grammar."""
        try:
            self._admission.grammars.add(plan)
        except Exception:  # a plan is the compiler's product: whatever is wrong with it must not end the loop
            logger.exception("plan %s cannot be loaded", plan.fingerprint)

    def generate(self, request: Generate) -> list[StepEvent]:
        """Lets a request wait for its first step; the events are those of one that ends at once."""
        try:
            return self._accept(request)
        except Exception as error:  # one request's guard
            return [self._failure(request.request_id, error)]

    def abort(self, request_id: str) -> None:
        """Forgets a request; its pages are free before the next step."""
        generation = self._generations.get(request_id)
        if generation is not None:
            self._forget(generation)

    def drain(self) -> None:
        """Refuses new requests from here on."""
        self._draining = True

    def abort_all(self) -> list[StepEvent]:
        """Ends every request as aborted."""
        events: list[StepEvent] = []
        for generation in list(self._generations.values()):
            finish = Finish(reason=FinishReason.ABORTED)
            events.append(self._output(generation, [], finish))
            self._forget(generation)
        return events

    @property
    def measures(self) -> Measures:
        """What was counted since start; changes with every step."""
        return self._measures

    @property
    def running(self) -> int:
        """Sequences that hold pages."""
        return len(self._scheduler.running)

    @property
    def is_idle(self) -> bool:
        return not self._generations

    def stats(self, nonce: int = 0) -> Stats:
        """Counters and gauges as of now."""
        scheduler, grammars, measures = self._scheduler, self._admission.grammars, self._measures
        return Stats(
            nonce=nonce,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            queued_tokens=scheduler.queued_tokens,
            pages_used=scheduler.pool.held,
            pages_total=scheduler.pool.count,
            preemptions=scheduler.preemptions,
            grammars=len(grammars),
            grammar_bytes=grammars.nbytes,
            steps=measures.steps,
            generated_tokens=measures.generated_tokens,
            prefill_tokens=measures.prefill_tokens,
            mask_s=measures.seconds.get("mask", 0.0),
            forward_s=measures.seconds.get("forward", 0.0),
            sample_s=measures.seconds.get("sample", 0.0),
            schedule_s=measures.seconds.get("schedule", 0.0),
            conclude_s=measures.seconds.get("conclude", 0.0),
            publish_s=measures.seconds.get("publish", 0.0),
            mask_wait_s=measures.seconds.get("mask_wait", 0.0),
            queue_s_p50=measures.queue_s_p50(self._clock()),
            decode_bytes=measures.decode_bytes,
            decode_s=measures.decode_s,
        )

    # Steps

    def step(self) -> list[StepEvent]:
        """Schedule, run, constrain, sample, publish."""
        events = self._expire()
        speculation = self._speculation
        began_at_cost = speculation.cost.clock() if speculation else 0.0
        with self._measures.timing("schedule", self._clock):
            events += self._propose()
            plan = self._scheduler.schedule()
        if plan is None:
            return events
        self._note_started(plan)
        began = self._clock()
        filled: Callable[[], Constrained] = partial(self._constrain, plan)
        if self._helper is not None:
            filled = self._helper.begin(filled)
        with self._measures.timing("forward", self._clock):
            logits = self._run(plan)
        with self._measures.timing("mask_wait", self._clock):
            rows, failed = filled()
        with self._measures.timing("sample", self._clock):
            self._sampler.measure(logits, rows, self._masks.rows, self._masks.names)
        decodes = all(part.sequence.decoding for part in plan.parts)
        if decodes:
            self._note_decoded(plan, self._clock() - began)
        drawn = self._measures.generated_tokens
        with self._measures.timing("conclude", self._clock):
            self._ends.clear()
            self._measures.gaps.clear()
            self._landed_at = self._clock()
            for part in plan.parts:
                events += self._conclude(part, rows, failed)
        if speculation:
            if decodes:
                tokens = self._measures.generated_tokens - drawn
                seconds = speculation.cost.clock() - began_at_cost
                speculation.note(len(plan.parts), len(plan.batch.token_ids), tokens, seconds)
            speculation.foresee(self._ends)
        self._measures.steps += 1
        return events

    def _propose(self) -> list[StepEvent]:
        """Lets each request guess at what follows, and says how many guesses the step verifies.

        The events are of those that failed at it.
        """
        if self._speculation is None:
            return []
        events: list[StepEvent] = []
        guessing: list[tuple[Generation, list[float]]] = []
        for sequence in list(self._scheduler.running):
            generation = self._generations[sequence.request_id]
            try:
                guessing.append((generation, generation.propose()))
            except Exception as error:  # one request's guard
                self._forget(generation)
                events.append(self._failure(sequence.request_id, error))
        guessing = self._drafted(guessing)
        pending = sum(sequence.pending for sequence in self._scheduler.running)
        counts = self._speculation.allot([chances for _, chances in guessing], pending)
        for (generation, _), count in zip(guessing, counts, strict=True):
            generation.take(count)
        return events

    def _drafted(self, guessing: list[tuple[Generation, list[float]]]) -> list[tuple[Generation, list[float]]]:
        """With the draft model's guesses for those who know little themselves, where asking it pays."""
        model, speculation = self._draft_model, self._speculation
        weak = [generation for generation, chances in guessing if not chances or chances[0] < _SAFE]
        if model is None or speculation is None or not weak:
            return guessing
        came_true = speculation.drafter.came_true[Source.MODEL]
        if not model.worth.should_ask(came_true, speculation.token_s):
            return guessing
        began = speculation.cost.clock()
        for generation, tokens in model.draft(weak, self._scheduler).items():
            generation.replace_guesses(tokens)
        model.worth.asked(speculation.cost.clock() - began, came_true)
        return [(generation, generation.chances) for generation, _ in guessing]

    def _run(self, plan: StepPlan) -> torch.Tensor:
        for source, target in plan.copies:
            self._runner.copy_page(source, target)
        if self._draft_model is not None:
            self._draft_model.follow(plan)
        return self._runner.run(plan.batch)

    def _constrain(self, plan: StepPlan) -> Constrained:
        """The rows of all parts in order, and what went wrong with whom."""
        with self._measures.timing("mask", self._clock):
            return self._filled_rows(plan)

    def _filled_rows(self, plan: StepPlan) -> Constrained:
        self._masks.clear()
        rows: list[Row] = []
        failed: dict[Sequence, Exception] = {}
        for part in plan.parts:
            generation = self._generations[part.sequence.request_id]
            try:
                wanted = generation.rows(part, self._masks)
            except Exception as error:  # one request's guard
                failed[part.sequence] = error
                wanted = [Row(generation.rule, 0, known=0)] * part.rows
            rows += wanted
        return rows, failed

    def _conclude(self, part: Part, rows: Items[Row], failed: dict[Sequence, Exception]) -> list[StepEvent]:
        """Draws for one sequence and says what came of it."""
        generation = self._generations[part.sequence.request_id]
        try:
            if part.sequence in failed:
                raise failed[part.sequence]
            return self._advance(generation, part, rows)
        except Exception as error:  # one request's guard
            self._forget(generation)
            return [self._failure(part.sequence.request_id, error)]

    def _advance(self, generation: Generation, part: Part, rows: Items[Row]) -> list[StepEvent]:
        mine = rows[part.first_row : part.first_row + part.rows]
        draw = self._sampler.draw
        certain = part.count - len(part.sequence.draft) if part.is_last else part.count
        guessed = len(part.sequence.draft)
        tokens = generation.accept(part, list(mine), lambda index: draw(part.first_row + index))
        missed = guessed + 1 - len(tokens)  # rows that nothing was drawn from
        self._measures.prefill_tokens += 0 if part.sequence.decoding else certain
        self._measures.generated_tokens += len(tokens)
        part.sequence.draft = []
        self._scheduler.complete(part, certain + max(0, len(tokens) - 1))
        if not tokens:
            return []
        timing, now = generation.timing, self._landed_at
        if timing.first_token is None:
            timing.first_token = now
        else:
            self._measures.note_gap(now - timing.last_token, len(tokens))
        timing.last_token = now
        if self._draft_model is not None:
            self._draft_model.settle(part.sequence)
        event = self._output(generation, tokens, self._timed(generation), verified=guessed)
        if generation.finish is not None:
            self._forget(generation)
        elif generation.speculator is not None:
            self._ends.append((generation.speculator, part.first_row + part.rows - 1 - missed))
        return [event]

    def _output(
        self, generation: Generation, tokens: list[Token], finish: Finish | None, *, verified: int = 0
    ) -> Output:
        first = generation.reported
        generation.reported += len(tokens)
        prompt = generation.take_prompt_tokens() if tokens else None
        return Output(
            request_id=generation.request.request_id,
            first=first,
            tokens=tokens,
            prompt=prompt,
            evidence=generation.evidence,
            finish=finish,
            closed_by_budget=generation.constraint is not None and generation.constraint.closed_by_budget,
            guessed=generation.speculator.report() if verified and generation.speculator is not None else [],
            jumped_tokens=generation.jumped,
            cached_tokens=generation.sequence.cached_tokens,
        )

    def _timed(self, generation: Generation) -> Finish | None:
        timing, finish = generation.timing, generation.finish
        if finish is not None and generation.speculator is not None:
            finish = msgspec.structs.replace(
                finish, guessed=generation.speculator.report(), jumped_tokens=generation.jumped
            )
        if finish is None or timing.started is None or timing.first_token is None:
            return finish
        return msgspec.structs.replace(
            finish,
            queue_s=timing.started - timing.arrived,
            prefill_s=timing.first_token - timing.started,
            decode_s=self._clock() - timing.first_token,
        )

    # Requests

    def _accept(self, request: Generate) -> list[StepEvent]:
        if self._draining:
            raise EngineUnavailable("the engine is draining and takes no new requests")
        if request.request_id in self._generations:
            raise InvalidRequest(f"request id {request.request_id!r} is in use")
        if self._scheduler.waiting.is_full:
            raise EngineOverloaded(f"{len(self._scheduler.waiting)} requests are waiting already")
        generation = self._admission.open(request, self._arrivals, self._clock())
        self._arrivals += 1
        self._generations[request.request_id] = generation
        if generation.finish is not None:  # a resumed request that lacked only its end
            del self._generations[request.request_id]
            self._admission.close(generation)
            return [self._output(generation, [], generation.finish)]
        chances = generation.propose()
        generation.take(sum(chance >= _SAFE for chance in chances))
        self._scheduler.add(generation.sequence)
        return []

    def _forget(self, generation: Generation) -> None:
        del self._generations[generation.request.request_id]
        self._scheduler.remove(generation.sequence)
        self._admission.close(generation)

    def _failure(self, request_id: str, error: Exception) -> Failure:
        if isinstance(error, EngineError):
            return Failure(request_id, error.code, error.message)
        logger.error("request %s ended by a defect", request_id, exc_info=error)
        return Failure(request_id, ErrorCode.INTERNAL, f"{type(error).__name__} in the engine; see its log")

    def _note_started(self, plan: StepPlan) -> None:
        now = self._clock()
        for part in plan.parts:
            timing = self._generations[part.sequence.request_id].timing
            if timing.started is None:
                timing.started = now
                self._measures.note_queued(now, now - timing.arrived)

    def _note_decoded(self, plan: StepPlan, seconds: float) -> None:
        """What a step had to read in which all sequences decode."""
        cached = int(plan.batch.context_lengths.sum())
        self._measures.decode_bytes += self._info.weight_bytes + cached * self._info.token_bytes
        self._measures.decode_s += seconds

    def _expire(self) -> list[StepEvent]:
        """Ends requests whose caller's deadline has passed."""
        now = self._clock()
        late = [
            generation
            for generation in self._generations.values()
            if generation.timing.deadline is not None and generation.timing.deadline <= now
        ]
        events: list[StepEvent] = []
        for generation in late:
            self._forget(generation)
            error = DeadlineExceeded("the deadline of the request has passed")
            events.append(self._failure(generation.request.request_id, error))
        return events
