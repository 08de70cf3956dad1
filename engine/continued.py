"""A request that may outlive what computes it: what has been received of it, and what it is told at its end.

What it is for: `engine.client` keeps one for each request over the lives of its process, `engine.fleet.client` over
replicas. What may not enter: sockets, who computes it next, clocks (times are arguments, on one monotonic clock).

The idea: the next life is given the tokens that were received, and tells at the end what it has seen itself. What the
earlier ones saw has to be added here: tokens that were forced, whether the budget closed the text, passes and seconds.
Of guesses that came true nothing is known of a life that did not end well; those of the last one are told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from engine.errors import InternalError
from engine.messages import Finish, FinishReason, Generate, Output

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
    _forced: int = 0
    _closed_by_budget: bool = False
    _earlier: Finish = _NOTHING  # passes and seconds of the lives before

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
            self._add(queue_s=now - self._since)
        self._since, self._tells, self._passes = now, False, 0

    def lost(self, now: float) -> None:
        """The life ended before the request; what it spent without a token counts as prefill."""
        spent = now - self._since
        seconds = (self._until_told_s, spent) if self._tells else (spent, 0.0)
        self._add(prefill_s=seconds[0], decode_s=seconds[1], passes=self._passes)
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
        self._closed_by_budget = self._closed_by_budget or output.closed_by_budget
        finish = output.finish
        if finish is not None and self.resumed:
            finish = self._whole(finish)
        return msgspec.structs.replace(output, request_id=self.request.request_id, finish=finish)

    def _whole(self, last: Finish) -> Finish:
        """What the last life tells, with what it cannot know."""
        before = self._earlier
        return msgspec.structs.replace(
            last,
            forced_tokens=self._forced,
            closed_by_budget=last.closed_by_budget or self._closed_by_budget,
            passes=before.passes + last.passes,
            queue_s=before.queue_s + last.queue_s,
            prefill_s=before.prefill_s + last.prefill_s,
            decode_s=before.decode_s + last.decode_s,
        )

    def _add(self, **amounts: float) -> None:
        sums = {name: getattr(self._earlier, name) + amount for name, amount in amounts.items()}
        self._earlier = msgspec.structs.replace(self._earlier, **sums)
