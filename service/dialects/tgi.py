"""TGI's shapes: `/generate`, its stream, token lists.

What it is for: pieces and summaries in, dictionaries out; `schemas.tgi` describes them. What may not enter: HTTP.

Unlike OpenAI's, they show special tokens among the tokens, and the stop string in the text. A character comes with the
token that completes it, so that the texts of tokens, joined, are the text.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Alternative, Finish, FinishReason, Token
from engine.tokenizer import Tokenizer
from schemas.tgi import GenerateRequest
from service.dialects.facts import finite, formwork_block
from service.gathering import Told
from service.generation import Prepared, Summary, aborted
from service.text import Piece

_UTF8 = codecs.getincrementaldecoder("utf-8")
_FINISH = {FinishReason.EOS: "eos_token", FinishReason.STOP: "stop_sequence", FinishReason.LENGTH: "length"}


def finish_word(finish: Finish) -> str:
    """TGI's word for the end of a choice."""
    if finish.reason is FinishReason.ABORTED:
        raise aborted()
    return _FINISH[finish.reason]


@dataclass(slots=True)
class _Texts:
    """What each token adds to a text."""

    tokenizer: Tokenizer
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _UTF8(errors="replace"))

    def of(self, token: Token) -> dict[str, Any]:
        """The token in TGI's shape."""
        special = token.token_id in self.tokenizer.special_ids
        return {
            "id": token.token_id,
            "text": self.tokenizer.token_text(token.token_id)
            if special
            else self._decoder.decode(self.tokenizer.token_bytes(token.token_id)),
            "logprob": finite(token.logprob),
            "special": special,
        }


@dataclass(slots=True)
class TgiVoice:
    """How one TGI request is answered; `index` counts the stream's tokens."""

    body: GenerateRequest
    tokenizer: Tokenizer
    text: str = ""
    index: int = 0
    _held: list[Token] = field(default_factory=list)
    _texts: _Texts = field(init=False)

    def __post_init__(self) -> None:
        self._texts = _Texts(self.tokenizer)

    def reply(self, prepared: Prepared, summary: Summary, told: Sequence[Told]) -> dict[str, Any]:
        """The whole response; the best of several is the likeliest by its mean log-prob."""
        best, *others = sorted(told, key=lambda each: each.score, reverse=True)
        reply: dict[str, Any] = {"generated_text": self._full(best.text)}
        if self.body.parameters.details:
            details = self._details(prepared, best)
            details["formwork"] = formwork_block(prepared, summary)
            if others:
                details["best_of_sequences"] = [
                    {"generated_text": self._full(each.text), **self._details(prepared, each)} for each in others
                ]
            reply["details"] = details
        return reply

    def events(self, piece: Piece, prepared: Prepared, summary: Summary) -> list[dict[str, Any]]:
        """One event a token; the last one ends the answer."""
        self.text += piece.text
        tokens = [*self._held, *piece.tokens]
        if not tokens:
            return []
        if piece.finish is None:  # the last token waits: it may be the one that carries the end
            self._held = tokens[-1:]
            tokens = tokens[:-1]
        events = [self._event(token) for token in tokens]
        if piece.finish is not None:
            self._end(events[-1], piece.finish, prepared, summary)
        return events

    def _event(self, token: Token) -> dict[str, Any]:
        self.index += 1
        event: dict[str, Any] = {
            "index": self.index,
            "token": self._texts.of(token),
            "generated_text": None,
            "details": None,
        }
        if self.body.parameters.top_n_tokens:
            event["top_tokens"] = self._top(token)
        return event

    def _end(self, event: dict[str, Any], finish: Finish, prepared: Prepared, summary: Summary) -> None:
        event["generated_text"] = self._full(self.text)
        if self.body.parameters.details:
            event["details"] = {
                "finish_reason": finish_word(finish),
                "generated_tokens": summary.completion_tokens,
                "seed": self._seed(prepared),
                "input_length": summary.prompt_tokens,
                "formwork": formwork_block(prepared, summary),
            }

    def _details(self, prepared: Prepared, told: Told) -> dict[str, Any]:
        tokens = [token for piece in told.pieces for token in piece.tokens]
        texts = _Texts(self.tokenizer)
        details: dict[str, Any] = {
            "finish_reason": finish_word(told.finish),
            "generated_tokens": len(tokens),
            "seed": self._seed(prepared),
            "prefill": self._prefill(told),
            "tokens": [texts.of(token) for token in tokens],
        }
        if self.body.parameters.top_n_tokens:
            details["top_tokens"] = [self._top(token) for token in tokens]
        return details

    def _prefill(self, told: Told) -> list[dict[str, Any]]:
        prompt = next((piece.prompt for piece in told.pieces if piece.prompt), None) or []
        return [
            {
                "id": token.token_id,
                "text": self.tokenizer.token_text(token.token_id),
                "logprob": None if token.logprob is None else finite(token.logprob),
            }
            for token in prompt
        ]

    def _seed(self, prepared: Prepared) -> int | None:
        """TGI tells the seed of what was drawn only."""
        return prepared.seed if prepared.sampling.temperature > 0 else None

    def _top(self, token: Token) -> list[dict[str, Any]]:
        return [self._alternative(each) for each in token.alternatives]

    def _alternative(self, token: Alternative) -> dict[str, Any]:
        return {
            "id": token.token_id,
            "text": self.tokenizer.token_text(token.token_id),
            "logprob": finite(token.logprob),
            "special": token.token_id in self.tokenizer.special_ids,
        }

    def _full(self, text: str) -> str:
        return self.body.inputs + text if self.body.parameters.return_full_text else text


def text_tokens(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Tokens with the places of their text, in characters."""
    out: list[dict[str, Any]] = []
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    start = 0
    for token_id in token_ids:
        stop = start + len(decoder.decode(tokenizer.token_bytes(token_id)))
        out.append({"id": token_id, "text": tokenizer.token_text(token_id), "start": start, "stop": stop})
        start = stop
    return out
