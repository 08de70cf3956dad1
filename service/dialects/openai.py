"""OpenAI's shapes: chat completions and their chunks.

What it is for: pieces and summaries in, dictionaries out; `schemas.chat` describes them. What may not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Finish, FinishReason
from engine.tokenizer import Tokenizer
from service.dialects.facts import (
    CallFields,
    all_shown,
    answer_facts,
    call_tokens,
    field_reader,
    finish_facts,
    formwork_block,
    logprob_entry,
    prompt_logprobs,
    token_facts,
    watermark_block,
)
from service.fields import FieldReader, FieldValue
from service.gathering import Told
from service.generation import Prepared, Summary, aborted
from service.refusals import refused_tokens
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


def finish_word(finish: Finish, called: str | None = None) -> str:
    """OpenAI's word for the end of a choice; `called` is the one for a choice that called."""
    if finish.reason is FinishReason.ABORTED:
        raise aborted()
    word = _FINISH[finish.reason]
    return called if called and word == "stop" else word


@dataclass(slots=True)
class WholeCall:
    """A call whose parts were joined."""

    id: str
    name: str
    custom: bool
    text: str = ""  # JSON of the arguments, or a custom tool's input


def whole_calls(pieces: Sequence[Piece]) -> list[WholeCall]:
    """The whole calls of a choice."""
    calls: dict[int, WholeCall] = {}
    for call in (piece.call for piece in pieces if piece.call is not None and piece.call.tells):
        if call.name is not None:
            calls[call.index] = WholeCall(call.id, call.name, call.custom)
        calls[call.index].text += call.arguments
    return [calls[index] for index in sorted(calls)]


def tool_calls(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The whole calls in OpenAI's shape."""
    return [_tool_call(call) for call in whole_calls(pieces)]


def _tool_call(call: WholeCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.text}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}


def call_delta(call: CallPiece) -> dict[str, Any]:
    """A part of a call: id, type and name in the first one only, since clients join what is repeated."""
    kind, key = ("custom", "input") if call.custom else ("function", "arguments")
    if call.name is None:
        return {"index": call.index, kind: {key: call.arguments}}
    return {"index": call.index, "id": call.id, "type": kind, kind: {"name": call.name, key: call.arguments}}


def legacy_delta(call: CallPiece) -> dict[str, Any]:
    """The same for OpenAI's older functions."""
    return {"arguments": call.arguments} if call.name is None else {"name": call.name, "arguments": call.arguments}


def usage(summary: Summary) -> dict[str, Any]:
    return {
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "total_tokens": summary.prompt_tokens + summary.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": summary.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": summary.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(slots=True)
class ChatVoice:
    """How one chat request is answered."""

    head: Head
    tokenizer: Tokenizer
    prepared: Prepared
    logprobs: bool
    include_usage: bool = False
    events: bool = False  # values are told as they complete
    legacy: bool = False  # the request had `functions`
    _readers: dict[int, FieldReader | None] = field(default_factory=dict)
    _fields: dict[int, list[FieldValue]] = field(default_factory=dict)
    _called: dict[int, CallFields] = field(default_factory=dict)

    def completion(self, summary: Summary, told: Sequence[Told]) -> dict[str, Any]:
        """The whole response."""
        return {
            **self.head.of("chat.completion"),
            "service_tier": None,
            "choices": [self._choice(index, each) for index, each in enumerate(told)],
            "usage": usage(summary),
            **self._of_prompt(told[0]),
            "formwork": formwork_block(self.prepared, summary, told),
        }

    def _of_prompt(self, told: Told) -> dict[str, Any]:
        count = self.prepared.sampling.prompt_logprobs
        if count is None:
            return {}
        return {"prompt_logprobs": prompt_logprobs(told.pieces, count, self.tokenizer)}

    def opening(self, index: int) -> dict[str, Any]:
        """A choice's first chunk."""
        self._readers[index] = field_reader(self.prepared)
        self._fields[index] = []
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def chunk(self, piece: Piece) -> dict[str, Any] | None:
        """The chunk of new text; None if the piece shows nothing."""
        if piece.call is not None:
            return self._call_chunk(piece.index, piece.call, piece.shown)
        if piece.reasoning:
            return self._chunk(piece.index, {"reasoning_content": piece.reasoning})
        if piece.refusal is not None:
            return self._chunk(piece.index, {"refusal": piece.refusal}, self._logprobs(piece.shown, refused=True))
        if not piece.text and not piece.shown:
            return None
        chunk = self._chunk(piece.index, {"content": piece.text}, self._logprobs(piece.shown))
        chunk["formwork"] = {"tokens": token_facts(piece.shown)}
        if (reader := self._readers[piece.index]) is not None:
            found = reader.feed(piece.shown)
            if self.events and found:
                chunk["formwork"]["fields"] = answer_facts(self.prepared, found)
            self._fields[piece.index] += found
        return chunk

    def closing(self, index: int, finish: Finish) -> dict[str, Any]:
        """A choice's last chunk."""
        chunk = self._chunk(index, {}, finish=finish_word(finish, self._call_word if index in self._called else None))
        facts = {**finish_facts(index, finish), "seed": self.prepared.seed, "watermark": watermark_block([finish])}
        if (reader := self._readers[index]) is not None:
            rest = reader.end()
            facts["fields"] = answer_facts(self.prepared, rest if self.events else [*self._fields[index], *rest])
        if index in self._called and not self.events:
            facts["calls"] = [{"index": i, "fields": fields} for i, fields in self._called[index].end().items()]
        chunk["formwork"] = facts
        return chunk

    @property
    def _call_word(self) -> str:
        return "function_call" if self.legacy else "tool_calls"

    def _call_chunk(self, index: int, call: CallPiece, shown: Sequence[Shown]) -> dict[str, Any] | None:
        found = self._called.setdefault(index, CallFields(self.prepared)).feed(call, shown)
        if not call.tells:
            return None
        delta = {"function_call": legacy_delta(call)} if self.legacy else {"tool_calls": [call_delta(call)]}
        chunk = self._chunk(index, delta)
        if tokens := call_tokens(shown):
            told: dict[str, Any] = {"index": call.index, "tokens": tokens}
            chunk["formwork"] = {"calls": [told | {"fields": found} if self.events and found else told]}
        return chunk

    def usage_chunk(self, summary: Summary) -> dict[str, Any]:
        return {**self.head.of("chat.completion.chunk"), "choices": [], "usage": usage(summary)}

    def _choice(self, index: int, told: Told) -> dict[str, Any]:
        calls = tool_calls(told.pieces)
        refused = [piece.refusal for piece in told.pieces if piece.refusal is not None]
        content = told.text if told.text or not (calls or refused) else None
        refusal = "".join(refused) if refused else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal, "annotations": []}
        if reasoning := "".join(piece.reasoning or "" for piece in told.pieces):
            message["reasoning_content"] = reasoning
        if calls and self.legacy:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "finish_reason": finish_word(told.finish, self._call_word if calls else None),
            "message": message,
            "logprobs": self._logprobs(
                refused_tokens(told.pieces) if refused else all_shown(told.pieces), refused=bool(refused)
            ),
        }

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        chunk: dict[str, Any] = {**self.head.of("chat.completion.chunk"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def _logprobs(self, shown: Sequence[Shown], *, refused: bool = False) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        entries = [logprob_entry(each, self.tokenizer) for each in shown]
        return {"content": None, "refusal": entries} if refused else {"content": entries, "refusal": None}
