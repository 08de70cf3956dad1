"""One request from its first token to its last: what may come next, and what became of it.

What it is for: everything of a request that the scheduler does not need: its place in the grammar, stop strings,
watermark, penalties, log-probs, its ending. What may not enter: pages, other requests, the wire's socket.

The idea: a step asks three things in turn. `propose`: which tokens probably follow (a draft behind the certain ones).
`rows`: how each wanted row of logits is to be drawn from, the draft's positions included. `accept`: given the draws,
the tokens up to the first that differs from the draft are certain; they are checked for an ending one by one and
reported. Each draw is a function of (seed, position), so verifying a draft this way gives exactly what single steps
would have given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from engine.canonical import Canonical
from engine.drawing import Drawn, Marking, Rejected, Row, Rule
from engine.errors import GrammarDeadEnd, NumericError
from engine.grammars import Constraint
from engine.history import TokenCounts
from engine.marking import MARKED_PLACES, is_choice, standing
from engine.masks import MaskRows
from engine.messages import Finish, FinishReason, Generate, MarkReport, PromptToken, Token
from engine.speculation import ForcedText, Source, Speculator
from engine.stops import StopScanner

if TYPE_CHECKING:
    from engine.scheduler import Part
    from engine.sequence import Sequence
    from watermark import Embedder


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the engine knows of the vocabulary: the bytes of each id (as long as a logits row), and which ids end."""

    tokens: list[bytes]
    eos_token_ids: frozenset[int]


@dataclass(slots=True)
class Timing:
    """Seconds on the loop's clock."""

    arrived: float
    started: float | None = None  # first scheduled
    first_token: float | None = None
    last_token: float = 0.0  # so far
    deadline: float | None = None


@dataclass(slots=True, eq=False)
class Generation:
    """Changed by the loop only."""

    request: Generate
    sequence: Sequence
    spelling: Spelling
    max_tokens: int  # what was asked for, within the model's and the cache's length
    timing: Timing
    constraint: Constraint | None = None
    speculator: Speculator | None = None  # None: nothing is guessed
    forced: ForcedText | None = None  # None: forced text is drawn like any other
    embedder: Embedder | None = None
    canonical: Canonical | None = None
    unmarked_reason: str | None = None
    stops: StopScanner = field(default_factory=lambda: StopScanner(()))
    emitted: list[int] = field(default_factory=list)
    reported: int = 0  # of the emitted tokens, how many were published (or came with a resumed request)
    prompt_tokens: list[PromptToken] = field(default_factory=list)
    stopped_by: bytes | int | None = None
    forced_tokens: int = 0
    passes: int = 0  # that brought tokens
    jumped: int = 0  # tokens that came whatever the model said
    finish: Finish | None = None
    rule: Rule = field(init=False)
    counts: TokenCounts | None = field(init=False)  # None: no penalty asks for them

    def __post_init__(self) -> None:
        self.rule = Rule.of(self.request.sampling)
        repeats = self.request.sampling.repetition_penalty != 1.0
        self.counts = TokenCounts(self.request.prompt if repeats else ()) if self.rule.penalises else None

    def replay(self) -> None:
        """Brings matcher, stop strings and watermark to the end of the tokens that a resumed request comes with."""
        for token in self.request.emitted:
            self._observe_again(token)
            self._advance(token)
            self._note(token)
        if self.embedder is not None and self.request.evidence is not None:
            self.embedder.recall(self.request.evidence)
        self.reported = len(self.emitted)

    @property
    def evidence(self) -> tuple[float, float] | None:
        """What a resumption must be told to promise as much as this generation would have."""
        return None if self.embedder is None else self.embedder.evidence

    # What may come next

    def propose(self) -> list[float]:
        """Guesses the tokens behind the certain ones; the chances that the first, the first two, … all come true."""
        if self.speculator is None:
            return []
        # All but the last token that the budget allows: behind that one nothing would be left to draw.
        if self.constraint is None:
            left, matcher = self.max_tokens - len(self.emitted), None
        else:
            left, matcher = self.constraint.budget, self.constraint.matcher
        self.speculator.guess(self.sequence.tokens, matcher, left - 1, self._jump())
        return self.chances

    @property
    def chances(self) -> list[float]:
        """Of the guesses as they stand."""
        return [] if self.speculator is None else [guess.chance for guess in self.speculator.guesses]

    def chance_of_draft(self, place: int) -> float:
        """That a draft model's token there comes true, if those before it do."""
        return 0.0 if self.speculator is None else self.speculator.chance((Source.MODEL, place))

    def replace_guesses(self, tokens: list[int]) -> None:
        """A draft model's tokens in place of the guesses; all but the last that the budget allows."""
        left = self.max_tokens - len(self.emitted) if self.constraint is None else self.constraint.budget
        if self.speculator is not None:
            self.speculator.replace(tokens[: max(0, left - 1)])

    def _jump(self) -> list[int]:
        """The tokens that come next whatever the model says, as far as it is worth knowing now."""
        taken = list[int]()
        if self.constraint is None:
            return taken
        while len(taken) < _MOST_JUMPED and (token := self._known(len(taken))) is not None:
            self.constraint.matcher.advance(token)
            taken.append(token)
        self.constraint.matcher.rollback(len(taken))
        return taken

    def _known(self, ahead: int) -> int | None:
        """The first of the usual tokens of forced text, unless it is the last, which may join with what follows.

        It goes by where the matcher stands, `ahead` tokens behind the certain ones, and by nothing that was thought
        before: so no draft changes it, and no resumption.
        """
        if self.forced is None or self.constraint is None:
            return None
        token = self.forced.first(self.constraint.matcher)
        if token is None or not self._try(token):
            return None
        fits = self.constraint.matcher.tokens_to_finish <= self.constraint.budget - ahead - 1
        self.constraint.matcher.rollback(1)
        return token if fits else None

    def take(self, count: int) -> None:
        """The next pass verifies the first `count` guesses."""
        if self.speculator is not None:
            self.sequence.draft = self.speculator.take(max(count, int(self.speculator.is_due())))

    def row_ahead(self, masks: MaskRows, ahead: list[int]) -> Row:
        """How the token behind `ahead` would be drawn; the matcher must have looked ahead of those."""
        return self._draw_row(masks, ahead)

    def look_ahead(self, token: int) -> bool:
        """Lets the matcher take a token that is not certain; False if it may not come."""
        return self._try(token)

    def look_back(self, count: int) -> None:
        """Takes back what was only looked at."""
        if self.constraint is not None:
            self.constraint.matcher.rollback(count)

    def rows(self, part: Part, masks: MaskRows) -> list[Row]:
        """How to read the part's rows, in order: prompt tokens to score, then the next token and the draft's."""
        draws = 1 + len(self.sequence.draft) if part.is_last else 0
        first_scored = part.start + part.count - part.rows
        rows = [self._score_row(first_scored + index + 1) for index in range(part.rows - draws)]
        return rows + self._draw_rows(masks) if part.is_last else rows

    def _score_row(self, index: int) -> Row:
        alternatives = self.request.sampling.prompt_logprobs or 0
        return Row(self.rule, 0, known=self.sequence.tokens[index], alternatives=alternatives)

    def _draw_rows(self, masks: MaskRows) -> list[Row]:
        draft = self.sequence.draft
        rows = [self._draw_row(masks, [])]
        taken = 0
        for index, token in enumerate(draft):
            if not self._try(token):
                break
            taken += 1
            rows.append(self._draw_row(masks, draft[: index + 1]))
        if self.constraint is not None and taken:
            self.constraint.matcher.rollback(taken)
        # A draft that the grammar refuses cannot be accepted: its rows are never looked at, any reading will do.
        return rows + [rows[0]] * (len(draft) - taken)

    def _try(self, token: int) -> bool:
        if token in self.spelling.eos_token_ids:
            return False
        return self.constraint is None or self.constraint.matcher.advance(token)

    def _draw_row(self, masks: MaskRows, ahead: list[int]) -> Row:
        alone, drawn_from = self._masks(masks, len(self.emitted) + len(ahead), len(ahead))
        forced = alone is not None and not masks.has_choice(alone)
        return Row(
            self.rule,
            len(self.emitted) + len(ahead),
            alone,
            drawn_from,
            self.request.sampling.top_logprobs,
            known=self._known(len(ahead)),
            forced=forced,
            history=None if self.counts is None else self.counts.history(ahead),
            marking=None if forced or self.embedder is None else self._marking(self.embedder, ahead),
        )

    def _masks(self, masks: MaskRows, position: int, ahead: int) -> tuple[int | None, int | None]:
        """Rows of the grammar's own mask and of what may be drawn."""
        if self.constraint is None:
            bans_end = position < self.request.sampling.min_tokens
            return None, masks.all_but(self.spelling.eos_token_ids) if bans_end else None
        shared = self.constraint.shared(ahead)
        if shared is not None:
            index = masks.share(shared)
            return index, index
        drawn_from = masks.take()
        alone = masks.take()
        if self.constraint.fill(masks.row(alone), masks.row(drawn_from), ahead):
            return alone, drawn_from
        masks.give_back(alone)
        return drawn_from, drawn_from

    def _marking(self, embedder: Embedder, ahead: list[int]) -> Marking | None:
        matcher = None if self.constraint is None else self.constraint.matcher
        place = standing(matcher, self.emitted + ahead if ahead else self.emitted, _WIDEST_CONTEXT)
        if place is None:
            return None
        kind, context = place
        keeps = None if self.canonical is None else partial(self._keeps, self.canonical, [*self.emitted[-4:], *ahead])
        return Marking(embedder, context, kind, keeps)

    def _keeps(self, canonical: Canonical, before: list[int], token: int) -> bool:
        """Whether the token is the usual spelling, with what stands before it and what is forced behind a value's end.

        Asked when all of `before` is committed, so that the matcher stands there.
        """
        if not canonical.follows(before, token):
            return False
        if self.constraint is None or b'"' not in self.spelling.tokens[token]:
            return True
        behind = self.constraint.matcher.clone()
        if not behind.advance(token) or behind.place_kind in MARKED_PLACES:
            return True
        forced = behind.forced_bytes()
        return not forced or canonical.stays(before, token, forced)

    # What became of it

    def take_prompt_tokens(self) -> list[PromptToken] | None:
        """The prompt's log-probs, once, if they were asked for; to be called when the first token was drawn."""
        if not self.sequence.scores_prompt:
            return None
        first, self.sequence.scores_prompt = PromptToken(self.request.prompt[0], None), False
        return [first, *self.prompt_tokens]

    def accept(self, part: Part, rows: list[Row], draw: Callable[[int], Drawn | Rejected]) -> list[Token]:
        """Draws and commits until a token differs from the draft; returns those to publish. Sets `finish` at the end.

        `draw(i)` draws from the part's row i. Raises NumericError or GrammarDeadEnd if a row that counts has no token.
        """
        self.passes += part.is_last
        if part.is_last and part.rows == 1:
            return [self._drawn(rows[0], draw(0))]
        scored = part.rows - (1 + len(self.sequence.draft)) if part.is_last else part.rows
        self._score_prompt([draw(index) for index in range(scored)])
        if not part.is_last:
            return []
        tokens: list[Token] = []
        for index, guess in enumerate([*self.sequence.draft, None], scored):
            running = self.stopped_by is None
            tokens.append(self._drawn(rows[index], draw(index)))
            hurried = running and self.stopped_by is not None  # the rows behind were masked with the old budget
            if self.finish is not None or hurried or tokens[-1].token_id != guess:
                break
        if self.speculator is not None:
            self.speculator.learn([token.token_id for token in tokens], len(self.sequence.draft))
        return tokens

    def _drawn(self, row: Row, drawn: Drawn | Rejected) -> Token:
        if isinstance(drawn, Rejected):
            raise self._rejection(drawn)
        return self._commit(row, drawn)

    def _rejection(self, draw: Rejected) -> NumericError | GrammarDeadEnd:
        if draw.is_numeric:
            return NumericError(f"the logits of output token {len(self.emitted)} are not finite")
        return GrammarDeadEnd(f"no token is legal as output token {len(self.emitted)}")

    def _score_prompt(self, draws: list[Drawn | Rejected]) -> None:
        for draw in draws:
            if isinstance(draw, Rejected):
                raise NumericError("the logits of a prompt token are not finite")
            self.prompt_tokens.append(PromptToken(draw.token_id, draw.logprob, draw.alternatives))

    def _commit(self, row: Row, draw: Drawn) -> Token:
        """Sample → advance → emit → count, in this order."""
        token = draw.token_id
        is_end = token in self.spelling.eos_token_ids
        scored = row.marking is not None and draw.choice is not None and not is_end
        eligible = False
        if scored and row.marking is not None:
            eligible = row.marking.embedder.observe(token, row.marking.context, row.marking.kind, draw.choice)
        self.forced_tokens += row.forced
        self.jumped += row.known is not None
        if self.constraint is not None and row.mask != row.drawn_from:
            self.constraint.closed_by_budget = True
        self._advance(token)
        self.sequence.tokens.append(token)
        self._note(token)
        self._conclude(is_end=is_end)
        # A difference of two rounded logarithms may come out above 0, which is no log-probability.
        logprob, constrained = min(0.0, draw.logprob), min(0.0, draw.constrained_logprob)
        return Token(token, logprob, constrained, draw.legal_mass, row.forced, eligible, draw.alternatives)

    def _advance(self, token: int) -> None:
        if self.constraint is None:
            return
        if not self.constraint.matcher.advance(token):
            raise GrammarDeadEnd(f"token {token} is not legal as output token {len(self.emitted)}")
        if token not in self.spelling.eos_token_ids:
            self.constraint.budget -= 1

    def _note(self, token: int) -> None:
        """Counts the token as emitted, and looks for stops."""
        self.emitted.append(token)
        if self.counts is not None:
            self.counts.note(token)
        if self.stopped_by is not None:
            return
        hit = self.stops.feed(self.spelling.tokens[token])
        if hit is not None:
            self.stopped_by = hit.stop
        elif token in self.request.sampling.stop_token_ids and len(self.emitted) > self.request.sampling.min_tokens:
            self.stopped_by = token
        if self.stopped_by is not None and self.constraint is not None:
            self.constraint.hurry()

    def _conclude(self, *, is_end: bool) -> None:
        reason = self._reason(is_end=is_end)
        if reason is not None:
            self.finish = self._finished(reason)

    def _reason(self, *, is_end: bool) -> FinishReason | None:
        constraint = self.constraint
        if constraint is not None:
            if not is_end and not self._only_the_end_is_left(constraint):
                return None
            return FinishReason.STOP if self.stopped_by is not None else FinishReason.EOS
        if self.stopped_by is not None:
            return FinishReason.STOP
        if is_end and not self.request.sampling.ignore_eos:
            return FinishReason.EOS
        return FinishReason.LENGTH if len(self.emitted) >= self.max_tokens else None

    def _only_the_end_is_left(self, constraint: Constraint) -> bool:
        """Then nobody needs to draw it."""
        matcher = constraint.matcher
        if not matcher.is_accepting:
            return False
        if constraint.budget <= 0:
            return True
        row = np.zeros((len(self.spelling.tokens) + 31) // 32, np.int32)
        if matcher.fill_mask(row, constraint.budget):
            constraint.closed_by_budget = True
        for token in self.spelling.eos_token_ids:
            row[token >> 5] &= ~np.int32(np.uint32(1 << (token & 31)).view(np.int32))
        return not row.any()

    def conclude_resumed(self) -> None:
        """A resumed request may come with all of its tokens: then it ends at once."""
        if not self.emitted:
            return
        last = self.emitted[-1]
        self._conclude(is_end=last in self.spelling.eos_token_ids)

    def _observe_again(self, token: int) -> None:
        if self.embedder is None or token in self.spelling.eos_token_ids:
            return
        matcher = None if self.constraint is None else self.constraint.matcher
        place = standing(matcher, self.emitted, _WIDEST_CONTEXT)
        if place is None:
            return
        if matcher is not None:
            row = np.zeros((len(self.spelling.tokens) + 31) // 32, np.int32)
            matcher.fill_mask(row)
            if not is_choice(row):
                return
        kind, context = place
        self.embedder.observe(token, context, kind)

    def _finished(self, reason: FinishReason) -> Finish:
        return Finish(
            reason=reason,
            stop=self.stopped_by if reason is FinishReason.STOP else None,
            closed_by_budget=self.constraint is not None and self.constraint.closed_by_budget,
            mark=self._mark_report(),
            forced_tokens=self.forced_tokens,
            cached_tokens=self.sequence.cached_tokens,
            passes=self.passes,
        )

    def _mark_report(self) -> MarkReport:
        if self.embedder is None:
            return MarkReport(applied=False, reason=self.unmarked_reason)
        report = self.embedder.report()
        return MarkReport(
            applied=report.applied,
            scheme=report.scheme,
            key_id=report.key_id,
            eligible=report.eligible,
            reason=None if report.reason is None else str(report.reason),
            expected_p=report.expected_p,
        )


_MOST_JUMPED = 32  # guesses at text that is decided; more would wait for the next pass
_WIDEST_CONTEXT = 8  # more than any scheme reads
