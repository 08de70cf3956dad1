"""One request as the scheduler sees it: tokens, and how many of them the cache holds.

What it is for: the state that scheduling reads and changes, and nothing else. What may not enter: grammars, sampling,
text.

The idea: `tokens` are certain (the prompt and what was emitted), `draft` are guesses behind them that the next pass
may verify. The first `computed` tokens are in the cache. Everything a pass must do follows from those three: compute
`tokens[computed:]` and the draft, and give logits from the last certain token on. A preempted sequence is one whose
`computed` went back to 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.pages import Link


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sequence:
    """Changed by the scheduler and the loop only."""

    request_id: str
    tenant: str
    priority: int
    arrival: int  # a counter: earlier requests have smaller ones, for ever
    tokens: list[int]
    prompt_length: int
    adapter: int  # the runner's slot; -1: none
    salt: str  # of shared pages: the tenant, and what else makes keys and values differ
    scores_prompt: bool = False  # logits are wanted for each prompt token too, so nothing is taken from shared pages
    draft: list[int] = field(default_factory=list)
    computed: int = 0
    pages: list[int] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)  # links[i] names everything before page i; whole pages only
    decoding: bool = False  # the prompt (and what was emitted before) is in the cache
    cached_tokens: int = 0  # of the prompt, found in shared pages at first admission
    admitted: bool = False  # ever

    @property
    def pending(self) -> int:
        """Certain tokens that the cache does not hold yet."""
        return len(self.tokens) - self.computed

    @property
    def urgency(self) -> tuple[int, int]:
        """Sorts the most urgent first."""
        return (-self.priority, self.arrival)
