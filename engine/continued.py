"""A request that may outlive what computes it: what has been received of it, and what it is told at its end.

What it is for: `engine.client` keeps one for each request over the lives of its process, `engine.fleet.client` over
replicas. What may not enter: sockets, who computes it next, clocks (times are arguments, on one monotonic clock).

The idea: the next life is given the tokens that were received, and tells at the end what it has seen itself. What the
earlier ones saw has to be added here: tokens that were forced or jumped over, guesses, passes, seconds, whether the
budget closed the text. How much of the prompt was found in shared pages is the first life's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from engine.errors import InternalError
from engine.finishes import joined
from engine.messages import Finish, FinishReason, Generate, Guessed, Output

_NOTHING = Finish(reason=FinishReason.ABORTED)


@dataclass(slots=True, eq=False)
class Continued:
    """`sent` and `lost` by turns, `take` for what comes between them. `arrived`: when it was asked for."""

    request: Generate
    arrived: float
    emitted: list[int] = field(default_factory=list)
    evidence: tuple[float, float] | None = None  # as the last output told it
    resumed: bool = False
    _since: float = 0.0  # when it was sent, lost, or told its first token of this life
    _tells: bool = False  # tokens have come in this life
    _passes: int = 0  # of this life
    _until_told_s: float = 0.0  # of this life
    _guessed: list[Guessed] = field(default_factory=list)  # in this life
    _jumped: int = 0  # in this life
    _closed_by_budget: bool = False  # in this life
    _cached: int | None = None  # None: no token has come in any life
    _forced: int = 0  # in all lives
    _earlier: Finish = _NOTHING  # what the lives before counted, forced tokens excepted

    @property
    def received(self) -> int:
        """Tokens so far, those it came with included: the number of the next one."""
        return len(self.request.emitted) + len(self.emitted)

    @property
    def due(self) -> float | None:
        """When its deadline is over."""
        return None if self.request.deadline_s is None else self.arrived + self.request.deadline_s

    def message(self, now: float, request_id: str | None = None) -> Generate:
        """The request as it stands: with what was received, and what is left of its time."""
        return msgspec.structs.replace(
            self.request,
            request_id=request_id or self.request.request_id,
            emitted=self.request.emitted + self.emitted,
            evidence=self.evidence,
            deadline_s=None if self.due is None else max(0.0, self.due - now),
        )

    def sent(self, now: float) -> None:
        """A life begins that will compute it; the time since the last one was lost counts as a queue's."""
        if self.resumed:
            self._add(Finish(reason=FinishReason.ABORTED, queue_s=now - self._since))
        self._since, self._tells, self._passes = now, False, 0
        self._guessed, self._jumped, self._closed_by_budget = [], 0, False

    def lost(self, now: float) -> None:
        """The life ended before the request; what it spent without a token counts as prefill."""
        spent = now - self._since
        prefill_s, decode_s = (self._until_told_s, spent) if self._tells else (spent, 0.0)
        self._add(
            Finish(
                reason=FinishReason.ABORTED,
                closed_by_budget=self._closed_by_budget,
                prefill_s=prefill_s,
                decode_s=decode_s,
                passes=self._passes,
                guessed=self._guessed,
                jumped_tokens=self._jumped,
            )
        )
        self._since, self.resumed = now, True

    def take(self, output: Output, now: float) -> Output:
        """Notes what came, and tells it as it is to be told. Raises InternalError for a gap or a repeat."""
        if output.first != self.received:
            raise InternalError(f"output token {output.first} came where {self.received} was due")
        if output.tokens and not self._tells:
            self._until_told_s, self._since, self._tells = now - self._since, now, True
        self._passes += bool(output.tokens)
        self.emitted.extend(token.token_id for token in output.tokens)
        self.evidence = output.evidence
        self._forced += sum(token.forced for token in output.tokens)
        self._note(output)
        finish = output.finish
        if finish is not None and self.resumed:
            finish = self._whole(finish)
        return msgspec.structs.replace(output, request_id=self.request.request_id, finish=finish)

    def _note(self, output: Output) -> None:
        """What is told so far of this life, should it be lost."""
        self._guessed = output.guessed or self._guessed
        self._jumped, self._closed_by_budget = output.jumped_tokens, output.closed_by_budget
        if output.tokens and self._cached is None:
            self._cached = output.cached_tokens

    def _whole(self, last: Finish) -> Finish:
        """What the last life tells, with what it cannot know."""
        cached = last.cached_tokens if self._cached is None else self._cached
        return msgspec.structs.replace(joined(self._earlier, last), forced_tokens=self._forced, cached_tokens=cached)

    def _add(self, part: Finish) -> None:
        self._earlier = joined(self._earlier, part)
