"""What the next step computes.

What it is for: turning the state of all sequences into one `StepBatch`, under a budget of tokens and pages. It
touches no device and no clock, so a test can drive it alone. What may not enter: torch, grammars, sampling, messages.

The idea: those who decode go first, each with its draft, so a long prompt never makes them wait for more than one
chunk; what is left of the budget is filled with chunks of prompts, first of those admitted, then of those waiting.
When pages run out, the least urgent sequence gives all of its pages back and is computed anew later (its pages stay
cached for as long as nobody needs them, so this is often cheap).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from engine.batch import Piece, StepBatch, pack
from engine.pages import PagePool, next_link, root_link
from engine.queue import WaitingQueue
from engine.sequence import Sequence


class Part(msgspec.Struct, frozen=True):
    """What one sequence does in a step: `count` query tokens from its token `start` on, draft included.

    Its logits are the rows `first_row … first_row + rows − 1`, those of its last `rows` query tokens. `is_last`:
    nothing certain is left to compute behind it, so its last certain token's logits say what comes next.
    """

    sequence: Sequence
    start: int
    count: int
    first_row: int
    rows: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step. `copies` come first, in order: (source page, target page)."""

    batch: StepBatch
    parts: list[Part]
    copies: list[tuple[int, int]]


class Scheduler:
    """Single writer of sequences, pages and the waiting queue."""

    def __init__(
        self,
        pool: PagePool,
        *,
        max_batch_tokens: int,
        max_sequences: int,
        max_waiting: int,
        max_rows: int,
        sharing: bool = True,
    ) -> None:
        self.pool = pool
        self.waiting = WaitingQueue(max_waiting)
        self.running: list[Sequence] = []  # most urgent first
        self.preemptions = 0
        self._max_batch_tokens = max(max_batch_tokens, max_sequences)  # each decoding sequence gets its token
        self._max_sequences = max_sequences
        self._max_rows = max(max_rows, max_sequences)
        self._sharing = sharing

    @property
    def capacity(self) -> int:
        """The longest sequence that fits when it is alone."""
        return self.pool.count * self.pool.page_size

    @property
    def queued_tokens(self) -> int:
        """Of prompts (and of what was emitted before a preemption), those that no step has computed yet."""
        coming = (sequence.pending for sequence in self.running if not sequence.decoding)
        return sum(sequence.pending for sequence in self.waiting) + sum(coming)

    def add(self, sequence: Sequence) -> bool:
        """Lets a sequence wait; False if the queue is full."""
        if self.waiting.is_full:
            return False
        self.waiting.add(sequence)
        return True

    def remove(self, sequence: Sequence) -> None:
        """Forgets a finished or cancelled sequence; its pages are free at once, and cached."""
        if sequence in self.running:
            self._release(sequence)
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.waiting.forget_idle({other.tenant for other in self.running})

    def schedule(self) -> StepPlan | None:
        """The next step; None if there is nothing to do."""
        return _Step(self).plan()

    def complete(self, part: Part, accepted: int) -> None:
        """The step ran: `accepted` of the part's query tokens are certain (the others' cache entries are void).

        Call it when the accepted ones are among `sequence.tokens`.
        """
        sequence = part.sequence
        sequence.computed = part.start + accepted
        self.waiting.charge(sequence.tenant, part.count)
        if self._sharing:
            self._publish_whole_pages(sequence)
            if part.is_last and not sequence.decoding:
                self._publish_partial_page(sequence)  # candidates of one prompt (n > 1) then share all of it
        sequence.decoding = sequence.decoding or part.is_last

    def reserve(self, sequence: Sequence, length: int) -> bool:
        """Gives a running sequence pages for `length` tokens ahead of its step, if they are free; nobody gives way."""
        missing = self.pool.needed(length) - len(sequence.pages)
        if missing > self.pool.free:
            return False
        sequence.pages.extend(self.pool.take() for _ in range(missing))
        return True

    def preempt(self, sequence: Sequence) -> None:
        """Takes all pages from a running sequence and lets it wait to be computed anew."""
        self._release(sequence)
        self.running.remove(sequence)
        self.waiting.add(sequence)
        self.preemptions += 1

    def _release(self, sequence: Sequence) -> None:
        if self._sharing:
            self._publish_partial_page(sequence)
        self.pool.release_all(sequence.pages)
        sequence.pages, sequence.links = [], []
        sequence.computed, sequence.decoding, sequence.draft = 0, False, []

    def _publish_whole_pages(self, sequence: Sequence) -> None:
        size, links = self.pool.page_size, sequence.links
        if not links:
            links.append(root_link(sequence.salt))
        while len(links) * size <= sequence.computed:
            index = len(links) - 1
            content = sequence.tokens[index * size : (index + 1) * size]
            self.pool.publish(sequence.pages[index], links[-1], content)
            links.append(next_link(links[-1], content))

    def _publish_partial_page(self, sequence: Sequence) -> None:
        index = len(sequence.links) - 1
        content = sequence.tokens[index * self.pool.page_size : sequence.computed] if sequence.links else []
        if content:
            self.pool.publish(sequence.pages[index], sequence.links[-1], content)

    def admit(self, sequence: Sequence, copies: list[tuple[int, int]]) -> bool:
        """Moves a waiting sequence to those running if there are pages for it, with all the content that is known."""
        pool = self.pool
        match = pool.match(sequence.salt, sequence.tokens) if self._may_share(sequence) else None
        pages = match.pages if match else []
        needed = pool.needed(len(sequence.tokens)) - len(pages)
        reserve = len(self.running)  # a page for each that decodes, lest the newcomer be preempted at once
        no_room = pool.free < needed + (reserve if self.running else 0)
        if no_room or (match is not None and self._is_being_computed(sequence, len(pages))):
            pool.release_all(pages)
            return False
        self.waiting.remove(sequence)
        sequence.pages, sequence.computed = list(pages), len(pages) * pool.page_size
        if match is not None:
            sequence.links = [root_link(sequence.salt)]
            self._relink(sequence)
            if match.partial is not None and pool.free > needed:
                self._copy_partial(sequence, match.partial, match.copied, copies)
        if not sequence.admitted:
            sequence.cached_tokens, sequence.admitted = min(sequence.computed, sequence.prompt_length), True
        self.running.append(sequence)
        self.running.sort(key=lambda other: other.urgency)
        return True

    def _may_share(self, sequence: Sequence) -> bool:
        return self._sharing and not sequence.scores_prompt

    def _is_being_computed(self, sequence: Sequence, matched: int) -> bool:
        """Whether a running prompt is about to publish more of this one than is known: it pays to wait for it."""
        longer = (matched + 1) * self.pool.page_size
        if longer >= len(sequence.tokens):
            return False
        beginning = sequence.tokens[:longer]
        return any(
            not other.decoding and other.salt == sequence.salt and other.tokens[:longer] == beginning
            for other in self.running
        )

    def _relink(self, sequence: Sequence) -> None:
        size, links = self.pool.page_size, sequence.links
        for index in range(len(sequence.pages)):
            links.append(next_link(links[-1], sequence.tokens[index * size : (index + 1) * size]))

    def _copy_partial(self, sequence: Sequence, source: int, copied: int, copies: list[tuple[int, int]]) -> None:
        self.pool.hold(source)  # or `take` might hand out the very page that is to be copied
        target = self.pool.take()
        self.pool.release(source)
        sequence.pages.append(target)
        sequence.computed += copied
        copies.append((source, target))


class _Step:
    """One call of `schedule`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.tokens_left = scheduler._max_batch_tokens
        self.rows_left = scheduler._max_rows
        self.chosen: list[tuple[Sequence, int, int]] = []  # sequence, query tokens, rows
        self.planned: set[Sequence] = set()
        self.copies: list[tuple[int, int]] = []

    def plan(self) -> StepPlan | None:
        running = self.scheduler.running
        self._decode([sequence for sequence in running if sequence.decoding])
        self._prefill([sequence for sequence in running if not sequence.decoding])
        self._admit()
        return StepPlan(self._batch(), self._parts(), self.copies) if self.chosen else None

    def _decode(self, sequences: list[Sequence]) -> None:
        waiting_for_token = len(sequences)
        owed = sum(map(self._missing_pages, self.scheduler.running))
        for sequence in sequences:
            waiting_for_token -= 1
            owed -= self._missing_pages(sequence)
            if not sequence.decoding:  # preempted by one before it
                continue
            spare = min(self.tokens_left, self.rows_left) - waiting_for_token - sequence.pending
            del sequence.draft[max(0, min(spare, self._guesses_in_free_pages(sequence, owed))) :]
            if self._make_room(sequence, len(sequence.tokens) + len(sequence.draft)):
                self._choose(sequence, sequence.pending + len(sequence.draft), 1 + len(sequence.draft))

    def _missing_pages(self, sequence: Sequence) -> int:
        """For its certain tokens."""
        return max(0, self.scheduler.pool.needed(len(sequence.tokens)) - len(sequence.pages))

    def _guesses_in_free_pages(self, sequence: Sequence, owed: int) -> int:
        """How long a draft may be so that nobody gives way to a guess. `owed`: pages that those behind it need."""
        pool = self.scheduler.pool
        free = max(0, pool.free - owed)
        return (len(sequence.pages) + free) * pool.page_size - len(sequence.tokens)

    def _prefill(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            if self.tokens_left <= 0 or self.rows_left <= 0:
                return
            if sequence in self.scheduler.running:
                self._chunk(sequence)

    def _admit(self) -> None:
        scheduler = self.scheduler
        while self.tokens_left > 0 and self.rows_left > 0 and len(scheduler.running) < scheduler._max_sequences:
            head = scheduler.waiting.peek()
            if head is None or not scheduler.admit(head, self.copies):
                return
            self._chunk(head)

    def _chunk(self, sequence: Sequence) -> None:
        count = min(sequence.pending, self.tokens_left)
        if sequence.scores_prompt:
            count = min(count, self.rows_left)
        is_last = count == sequence.pending
        draft = 0
        if is_last:
            draft = min(
                len(sequence.draft), self.tokens_left - count, self.rows_left - (count if sequence.scores_prompt else 1)
            )
            del sequence.draft[draft:]
        if not self._make_room(sequence, sequence.computed + count + draft):
            return
        rows = count + draft if sequence.scores_prompt else (1 + draft if is_last else 0)
        self._choose(sequence, count + draft, rows)

    def _choose(self, sequence: Sequence, count: int, rows: int) -> None:
        self.tokens_left -= count
        self.rows_left -= rows
        self.planned.add(sequence)
        self.chosen.append((sequence, count, rows))

    def _make_room(self, sequence: Sequence, length: int) -> bool:
        """Gives the sequence pages for `length` tokens, preempting the least urgent; False if it gave way itself."""
        pool = self.scheduler.pool
        missing = pool.needed(length) - len(sequence.pages)
        if missing > pool.free:
            self._take_back_from_guesses()
        while missing > pool.free:
            victim = self._victim()
            if victim is None or victim is sequence:
                if victim is sequence and len(self.scheduler.running) > 1:
                    self.scheduler.preempt(sequence)
                return False
            self.scheduler.preempt(victim)
        sequence.pages.extend(pool.take() for _ in range(missing))
        return True

    def _take_back_from_guesses(self) -> None:
        """Frees pages that were taken for guesses which did not come true."""
        pool = self.scheduler.pool
        for sequence in self.scheduler.running:
            length = len(sequence.tokens) + (len(sequence.draft) if sequence in self.planned else 0)
            needed = pool.needed(length)
            pool.release_all(sequence.pages[needed:])
            del sequence.pages[needed:]

    def _victim(self) -> Sequence | None:
        """The least urgent of those not yet planned in this step."""
        return next((one for one in reversed(self.scheduler.running) if one not in self.planned), None)

    def _parts(self) -> list[Part]:
        parts, row = [], 0
        for sequence, count, rows in self.chosen:
            is_last = sequence.computed + count >= len(sequence.tokens)
            parts.append(Part(sequence, sequence.computed, count, row, rows, is_last))
            row += rows
        return parts

    def _batch(self) -> StepBatch:
        return pack([self._piece(*each) for each in self.chosen], self.scheduler.pool.page_size)

    def _piece(self, sequence: Sequence, count: int, rows: int) -> Piece:
        tokens = sequence.tokens[sequence.computed : sequence.computed + count]
        tokens += sequence.draft[: count - len(tokens)]
        return Piece(sequence.computed, tokens, sequence.pages, rows, sequence.adapter)
