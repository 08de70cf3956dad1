"""OpenAI's text completions: the whole response and the events of a stream have one shape.

What it is for: pieces in, dictionaries out; `schemas.completions` describes them. What may not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.tokenizer import Tokenizer
from service.dialects.facts import all_shown, finite, spelled
from service.dialects.openai import Head, finish_word
from service.generation import Told
from service.text import Piece, Shown


@dataclass(slots=True)
class CompletionVoice:
    """How one request is answered; `echo` is what each prompt's choices begin with."""

    head: Head
    tokenizer: Tokenizer
    logprobs: int | None
    include_usage: bool = False
    _offsets: dict[int, int] = field(default_factory=dict)

    def choice(self, index: int, told: Told, echo: str) -> dict[str, Any]:
        """One whole choice."""
        self._offsets[index] = len(echo)
        return {
            "index": index,
            "text": echo + told.text,
            "finish_reason": finish_word(told.finish),
            "logprobs": self._logprobs(index, all_shown(told.pieces)),
        }

    def event(self, index: int, piece: Piece, echo: str) -> dict[str, Any]:
        """One event of a stream; the first of a choice carries the echo."""
        if index not in self._offsets:
            self._offsets[index] = len(echo)
        else:
            echo = ""
        choice = {
            "index": index,
            "text": echo + piece.text,
            "finish_reason": finish_word(piece.finish) if piece.finish else None,
            "logprobs": self._logprobs(index, piece.shown),
        }
        body: dict[str, Any] = {**self.head.of("text_completion"), "choices": [choice]}
        if self.include_usage:
            body["usage"] = None
        return body

    def _logprobs(self, index: int, shown: Sequence[Shown]) -> dict[str, Any] | None:
        if self.logprobs is None:
            return None
        offsets, texts = [], []
        for each in shown:
            texts.append(spelled(each.data) or self.tokenizer.token_text(each.token.token_id))
            offsets.append(self._offsets[index])
            self._offsets[index] += len(each.data.decode(errors="ignore"))
        return {
            "tokens": texts,
            "token_logprobs": [finite(each.token.logprob) for each in shown],
            "top_logprobs": [self._top(each) for each in shown] if self.logprobs else None,
            "text_offset": offsets,
        }

    def _top(self, shown: Shown) -> dict[str, float]:
        out: dict[str, float] = {}
        for each in shown.token.alternatives:
            text = spelled(self.tokenizer.token_bytes(each.token_id)) or self.tokenizer.token_text(each.token_id)
            out.setdefault(text, finite(each.logprob))  # two tokens may look alike; the likelier one is kept
        return out
