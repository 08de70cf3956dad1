"""Whole answers, for those that are not streamed.

What it is for: all choices of one generation or of several, complete. What may not enter: a dialect's shapes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.messages import Finish, FinishReason
from service.generation import Generation, aborted
from service.text import Piece


@dataclass(slots=True)
class Told:
    """A whole choice, for answers that are not streamed."""

    text: str = ""
    pieces: list[Piece] = field(default_factory=list)

    @property
    def finish(self) -> Finish:
        finish = self.pieces[-1].finish
        assert finish is not None
        return finish

    @property
    def score(self) -> float:
        """How likely the model found it: the mean log-prob of its tokens, by which the best of several is chosen."""
        logprobs = [token.logprob for piece in self.pieces for token in piece.tokens]
        return sum(logprobs) / max(1, len(logprobs))


async def gather(generation: Generation) -> list[Told]:
    """All choices, complete."""
    told = [Told() for _ in range(generation.prepared.wish.n)]
    async with generation:
        while (piece := await generation.next()) is not None:
            told[piece.index].pieces.append(piece)
            if piece.finish is not None and piece.finish.reason is FinishReason.ABORTED:
                raise aborted()
    for each in told:
        each.text = "".join(piece.text for piece in each.pieces)
    return told


async def gather_all(generations: Sequence[Generation]) -> list[list[Told]]:
    """All choices of each, complete; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(gather(generation)) for generation in generations]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
