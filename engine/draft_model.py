"""A smaller model that guesses what the served one will draw.

What it is for: drafting for all sequences of a step together, with a cache of its own. What may not enter: acceptance
(its tokens are guesses like any other), how many of them are verified.

The idea: its cache has the same pages as the model's own, so a sequence's page table serves both; sharing, preemption
and copies follow without further books. Each guess is drawn as the model's own token would be: under the grammar's mask
of that position, by the request's rule, watermark included, with the position's own noise. So it comes true wherever
the two distributions agree on that noise, and what is drawn in the end is what it always was. Where shared pages hold
tokens that it has not seen, its guesses are worse, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from engine.batch import Piece, Runner, pack
from engine.drawing import Drawn, Row, Sampler
from engine.generation import Generation
from engine.masks import MaskRows
from engine.scheduler import Scheduler, StepPlan
from engine.sequence import Sequence
from engine.speculation.worth import Worth

_LEAST = 0.2  # chance of a whole draft below which it is not made longer


@dataclass(eq=False)
class _Draft:
    """One sequence's chain so far."""

    generation: Generation
    tokens: list[int] = field(default_factory=list)
    chance: float = 1.0  # that all of them come true
    ended: bool = False


class DraftModel:
    """Only the loop calls it. `most`: tokens in one draft."""

    def __init__(self, runner: Runner, sampler: Sampler, width: int, most: int) -> None:
        self._runner, self._sampler, self._most = runner, sampler, most
        self._masks = MaskRows(width)
        self._known: WeakKeyDictionary[Sequence, int] = WeakKeyDictionary()  # tokens in its cache
        self.worth = Worth()

    def follow(self, plan: StepPlan) -> None:
        """Keeps up with prompts: computes the same chunks. What is decoded it catches up with when it drafts."""
        for source, target in plan.copies:
            self._runner.copy_page(source, target)
        pieces = []
        for part in plan.parts:
            sequence = part.sequence
            if not sequence.decoding:
                tokens = sequence.tokens[part.start : part.start + part.count]
                pieces.append(Piece(part.start, tokens, sequence.pages, 0))
                self._known[sequence] = part.start + len(tokens)
        if pieces:
            self._runner.run(pack(pieces, self._runner.info.page_size))

    def draft(self, generations: Items[Generation], scheduler: Scheduler) -> dict[Generation, list[int]]:
        """Guesses for those that decode, where there are pages for them."""
        drafts = [_Draft(each) for each in generations if self._has_room(each.sequence, scheduler)]
        try:
            for _ in range(self._most):
                going = [each for each in drafts if not each.ended]
                if not going:
                    break
                self._extend(going)
        finally:
            for each in drafts:
                each.generation.look_back(len(each.tokens))
        return {each.generation: each.tokens for each in drafts if each.tokens}

    def _has_room(self, sequence: Sequence, scheduler: Scheduler) -> bool:
        length = len(sequence.tokens) + self._most
        return (
            sequence.decoding
            and sequence in self._known
            and length <= self._runner.info.max_positions
            and scheduler.reserve(sequence, length)
        )

    def _extend(self, drafts: Items[_Draft]) -> None:
        """One token more for each: a pass over what its cache lacks, and a draw."""
        pieces = []
        for each in drafts:
            sequence = each.generation.sequence
            known = min(self._known[sequence], len(sequence.tokens) - 1) if not each.tokens else self._known[sequence]
            unseen = [*sequence.tokens, *each.tokens][known:]
            pieces.append(Piece(known, unseen, sequence.pages, 1))
            # What it guessed itself may not come true: the next draft begins behind the certain tokens.
            self._known[sequence] = known + len(unseen)
        logits = self._runner.run(pack(pieces, self._runner.info.page_size))
        self._masks.clear()
        self._sampler.measure(logits, [self._row(each) for each in drafts], self._masks.rows, self._masks.names)
        for index, each in enumerate(drafts):
            drawn = None if each.ended else self._sampler.draw(index)
            if isinstance(drawn, Drawn) and each.generation.look_ahead(drawn.token_id):
                each.chance *= each.generation.chance_of_draft(len(each.tokens))
                each.tokens.append(drawn.token_id)
                each.ended = each.chance < _LEAST
            else:
                each.ended = True

    def _row(self, draft: _Draft) -> Row:
        try:
            return draft.generation.row_ahead(self._masks, draft.tokens)
        except Exception:  # the same will end the request when its step is made, under the loop's guard
            draft.ended = True
            return Row(draft.generation.rule, 0, known=0)

    def settle(self, sequence: Sequence) -> None:
        """A step has shown how far the draft came true: what its cache holds beyond is void."""
        if sequence in self._known:
            self._known[sequence] = min(self._known[sequence], len(sequence.tokens) - 1)
