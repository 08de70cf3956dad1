"""OpenAI's shapes: chat completions and their chunks.

What it is for: pieces and summaries in, dictionaries out; `schemas.chat` describes them. What may not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine import EngineUnavailable
from engine.messages import Finish, FinishReason
from engine.tokenizer import Tokenizer
from service.dialects.facts import all_shown, finish_facts, finite, formwork_block, spelled, token_facts
from service.generation import Prepared, Summary, Told, watermark_block
from service.text import CallPiece, Piece, Shown

_FINISH = {FinishReason.EOS: "stop", FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class Head:
    """What all chunks of a response share."""

    id: str
    created: int
    model: str
    fingerprint: str

    def of(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def finish_word(finish: Finish, *, called: bool = False) -> str:
    """OpenAI's word for the end of a choice."""
    if finish.reason is FinishReason.ABORTED:
        raise EngineUnavailable("the server closed before this request was finished")
    word = _FINISH[finish.reason]
    return "tool_calls" if called and word == "stop" else word


def tool_calls(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The whole calls of a choice."""
    calls: dict[int, dict[str, Any]] = {}
    for call in (piece.call for piece in pieces if piece.call is not None):
        if call.name is not None:
            function = {"name": call.name, "arguments": ""}
            calls[call.index] = {"id": call.id, "type": "function", "function": function}
        calls[call.index]["function"]["arguments"] += call.arguments
    return [calls[index] for index in sorted(calls)]


def call_delta(call: CallPiece) -> dict[str, Any]:
    """A part of a call: id, type and name in the first one only, since clients join what is repeated."""
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def usage(summary: Summary) -> dict[str, Any]:
    return {
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "total_tokens": summary.prompt_tokens + summary.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": summary.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(frozen=True, slots=True)
class ChatVoice:
    """How one chat request is answered."""

    head: Head
    tokenizer: Tokenizer
    logprobs: bool  # false only where the client said so
    include_usage: bool = False

    def completion(self, prepared: Prepared, summary: Summary, told: Sequence[Told]) -> dict[str, Any]:
        """The whole response."""
        return {
            **self.head.of("chat.completion"),
            "service_tier": None,
            "choices": [self._choice(index, each) for index, each in enumerate(told)],
            "usage": usage(summary),
            "formwork": formwork_block(prepared, summary, told),
        }

    def opening(self, index: int) -> dict[str, Any]:
        """A choice's first chunk."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def chunk(self, piece: Piece) -> dict[str, Any] | None:
        """The chunk of new text; None if the piece shows nothing."""
        if piece.call is not None:
            return self._chunk(piece.index, {"tool_calls": [call_delta(piece.call)]})
        if not piece.text and not piece.shown:
            return None
        chunk = self._chunk(piece.index, {"content": piece.text}, self._logprobs(piece.shown))
        chunk["formwork"] = {"tokens": token_facts(piece.shown)}
        return chunk

    def closing(self, index: int, finish: Finish, prepared: Prepared, *, called: bool) -> dict[str, Any]:
        """A choice's last chunk."""
        chunk = self._chunk(index, {}, finish=finish_word(finish, called=called))
        chunk["formwork"] = {
            **finish_facts(index, finish),
            "seed": prepared.seed,
            "watermark": watermark_block([finish]),
        }
        return chunk

    def usage_chunk(self, summary: Summary) -> dict[str, Any]:
        return {**self.head.of("chat.completion.chunk"), "choices": [], "usage": usage(summary)}

    def _choice(self, index: int, told: Told) -> dict[str, Any]:
        calls = tool_calls(told.pieces)
        content = told.text if told.text or not calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "finish_reason": finish_word(told.finish, called=bool(calls)),
            "message": message,
            "logprobs": self._logprobs(all_shown(told.pieces)),
        }

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk: dict[str, Any] = {**self.head.of("chat.completion.chunk"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def _logprobs(self, shown: Sequence[Shown]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {"content": [self._entry(each) for each in shown], "refusal": None}

    def _entry(self, shown: Shown) -> dict[str, Any]:
        return {
            "token": spelled(shown.data) or self.tokenizer.token_text(shown.token.token_id),
            "bytes": list(shown.data),
            "logprob": finite(shown.token.logprob),
            "top_logprobs": [self._alternative(each.token_id, each.logprob) for each in shown.token.alternatives],
        }

    def _alternative(self, token_id: int, logprob: float) -> dict[str, Any]:
        data = self.tokenizer.token_bytes(token_id)
        return {
            "token": spelled(data) or self.tokenizer.token_text(token_id),
            "bytes": list(data),
            "logprob": finite(logprob),
        }
