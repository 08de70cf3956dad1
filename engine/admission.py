"""From a request on the wire to a generation that can be scheduled, or a typed refusal.

What it is for: every check of a request that needs the model, the cache, the grammars or the key ring. What may not
enter: scheduling, steps.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from engine.adapters import AdapterStore
from engine.canonical import Canonical
from engine.errors import ContextLengthExceeded, InvalidRequest
from engine.generation import Generation, Spelling, Timing
from engine.grammars import Constraint, GrammarStore
from engine.messages import AdapterRef, Generate, Mark, Sampling
from engine.sequence import Sequence
from engine.speculation import Drafter, ForcedText, Speculator
from engine.stops import StopScanner
from watermark import Commonplaces, Embedder, KeyRing, WatermarkError, scheme


@dataclass(frozen=True, slots=True)
class Admission:
    """`capacity`: the longest sequence that model and cache can hold."""

    grammars: GrammarStore
    spelling: Spelling
    key_ring: KeyRing | None
    capacity: int
    drafter: Drafter | None = None  # None: nothing is guessed
    canonical: Canonical | None = None  # None: marked text may be spelled in any way
    commonplaces: Commonplaces | None = None  # what the detector does not count, so that nothing is promised of it
    adapters: AdapterStore | None = None  # None: the model alone is served

    def open(self, request: Generate, arrival: int, now: float) -> Generation:
        """A generation that stands behind the tokens the request comes with. Raises an EngineError subclass."""
        self._check_tokens(request)
        max_tokens = self._room(request)
        embedder = None if request.mark is None else self._embedder(request.mark)
        with ExitStack() as taken:
            slot = self._slot(request.adapter, taken)
            generation = Generation(
                request=request,
                sequence=_sequence(request, arrival, slot),
                spelling=self.spelling,
                max_tokens=max_tokens,
                timing=Timing(now, deadline=None if request.deadline_s is None else now + request.deadline_s),
                embedder=embedder,
                canonical=self.canonical,
                stops=StopScanner(request.sampling.stop),
                speculator=self._speculator(request),
                forced=self._forced(request),
            )
            if request.grammar is not None:
                matcher = self.grammars.open(request.grammar)
                taken.callback(self.grammars.close, request.grammar)
                generation.constraint = Constraint(matcher, max_tokens)
            generation.replay()
            generation.conclude_resumed()
            taken.pop_all()  # until `close`
            return generation

    def close(self, generation: Generation) -> None:
        """Gives back what `open` took."""
        request = generation.request
        if request.grammar is not None:
            self.grammars.close(request.grammar)
        if request.adapter is not None and self.adapters is not None:
            self.adapters.close(request.adapter)

    def _slot(self, adapter: AdapterRef | None, taken: ExitStack) -> int:
        if adapter is None:
            return -1
        if self.adapters is None:
            raise InvalidRequest("this engine serves no adapters")
        slot = self.adapters.open(adapter)
        taken.callback(self.adapters.close, adapter)
        return slot

    def _forced(self, request: Generate) -> ForcedText | None:
        """Who spells what is jumped over; None: every token is drawn."""
        if not request.jump:
            return None
        if self.drafter is None or self.drafter.forced is None:
            raise InvalidRequest("jump: this engine does not guess with the grammar (speculate, speculate_with)")
        return self.drafter.forced

    def _speculator(self, request: Generate) -> Speculator | None:
        if self.drafter is None:
            return None
        if request.grammar is None:
            return self.drafter.speculator()
        return self.drafter.speculator(self.grammars.rates(request.grammar, self.drafter.rates))

    def _room(self, request: Generate) -> int:
        room = self.capacity - len(request.prompt)
        if room <= 0:
            raise ContextLengthExceeded(
                f"the prompt has {len(request.prompt)} tokens; prompt and output together may have {self.capacity}"
            )
        return min(request.sampling.max_tokens, room)

    def _check_tokens(self, request: Generate) -> None:
        width, sampling = len(self.spelling.tokens), request.sampling
        if not request.prompt:
            raise InvalidRequest("the prompt is empty")
        named = (*request.prompt, *request.emitted, *sampling.logit_bias, *sampling.stop_token_ids)
        wrong = next((token for token in named if not 0 <= token < width), None)
        if wrong is not None:
            raise InvalidRequest(f"token id {wrong} is outside the vocabulary of {width}")
        _check_sampling(sampling)

    def _embedder(self, mark: Mark) -> Embedder:
        if self.key_ring is None:
            raise InvalidRequest("a watermark was asked for, but the engine has no key ring")
        try:
            key = self.key_ring.key(mark.key_id, mark.tenant)
            return Embedder(scheme(mark.scheme, **mark.parameters), key, commonplaces=self.commonplaces)
        except WatermarkError as error:
            raise InvalidRequest(str(error)) from error


def _sequence(request: Generate, arrival: int, adapter: int) -> Sequence:
    return Sequence(
        request_id=request.request_id,
        tenant=request.tenant,
        adapter=adapter,
        # An adapter changes keys and values, so its pages are never another's.
        salt=request.tenant if request.adapter is None else f"{request.tenant}\0{request.adapter.version}",
        priority=request.priority,
        arrival=arrival,
        tokens=[*request.prompt, *request.emitted],
        prompt_length=len(request.prompt),
        scores_prompt=request.sampling.prompt_logprobs is not None and not request.emitted,
    )


def _check_sampling(sampling: Sampling) -> None:
    """What the service should have refused already: here it only must not harm the batch."""
    ranges = {
        "max_tokens": sampling.max_tokens >= 1,
        "temperature": 0.0 <= sampling.temperature <= 1e4,
        "top_p": 0.0 < sampling.top_p <= 1.0,
        "min_p": 0.0 <= sampling.min_p <= 1.0,
        "typical_p": 0.0 < sampling.typical_p <= 1.0,
        "top_k": sampling.top_k is None or sampling.top_k >= 0,
        "repetition_penalty": 0.0 < sampling.repetition_penalty <= 1e4,
        "frequency_penalty": abs(sampling.frequency_penalty) <= 1e4,
        "presence_penalty": abs(sampling.presence_penalty) <= 1e4,
        "logit_bias": all(abs(bias) <= 1e4 for bias in sampling.logit_bias.values()),
        "top_logprobs": 0 <= sampling.top_logprobs <= 1000,
        "prompt_logprobs": sampling.prompt_logprobs is None or 0 <= sampling.prompt_logprobs <= 1000,
    }
    wrong = next((name for name, holds in ranges.items() if not holds), None)
    if wrong is not None:
        raise InvalidRequest(f"{wrong} is out of range: {getattr(sampling, wrong)!r}")
