"""What every dialect tells of tokens and finishes, and the `formwork` block.

What it is for: log-probs that are valid JSON, the spelling of tokens that are no whole characters, our own block.
What may not enter: HTTP, a dialect's own words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Alternative, Finish, PromptToken, Token
from engine.tokenizer import Tokenizer
from service.evidence import Texts, quoted_at
from service.fields import FieldReader, FieldValue
from service.gathering import Told
from service.generation import Prepared, Summary
from service.text import CallPiece, Piece, Shown

_VERY_UNLIKELY = -9999.0  # JSON has no -Infinity; OpenAI's stand-in


def finite(logprob: float) -> float:
    """A log-prob that JSON can hold."""
    return logprob if math.isfinite(logprob) and logprob > _VERY_UNLIKELY else _VERY_UNLIKELY


def spelled(data: bytes) -> str:
    """A token's text; bytes that are no whole characters are escaped, as OpenAI does."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def logprob_entry(shown: Shown, tokenizer: Tokenizer) -> dict[str, Any]:
    """A token with its log-prob and its alternatives', as OpenAI tells them."""
    return {
        **_logprob(shown.data, shown.token, tokenizer),
        "top_logprobs": [
            _logprob(tokenizer.token_bytes(each.token_id), each, tokenizer) for each in shown.token.alternatives
        ],
    }


def _logprob(data: bytes, token: Token | Alternative, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "token": spelled(data) or tokenizer.token_text(token.token_id),
        "bytes": list(data),
        "logprob": finite(token.logprob),
    }


def prompt_logprobs(pieces: Sequence[Piece], count: int, tokenizer: Tokenizer) -> list[dict[str, Any] | None]:
    """vLLM's list of the prompt's tokens, each with its `count` likeliest alternatives, by token id."""
    prompt = next((piece.prompt for piece in pieces if piece.prompt), None) or ()
    return [_ranked(each, count, tokenizer) for each in prompt]


def _ranked(token: PromptToken, count: int, tokenizer: Tokenizer) -> dict[str, Any] | None:
    if token.logprob is None:
        return None
    told: dict[int, tuple[float, int | None]]
    told = {each.token_id: (each.logprob, rank) for rank, each in enumerate(token.alternatives[:count], 1)}
    told.setdefault(token.token_id, (token.logprob, None))
    return {
        str(token_id): {"logprob": finite(logprob), "rank": rank, "decoded_token": tokenizer.token_text(token_id)}
        for token_id, (logprob, rank) in told.items()
    }


def field_facts(found: Sequence[FieldValue], schema: Any = None, texts: Texts | None = None) -> list[dict[str, Any]]:
    """Values with how sure the model was of them; where the schema wants a quotation, also where it stands."""
    return [_field_fact(each, schema, texts) for each in found]


def _field_fact(each: FieldValue, schema: Any, texts: Texts | None) -> dict[str, Any]:
    fact: dict[str, Any] = {
        "path": each.path,
        "value": each.value,
        "logprob": finite(each.logprob),
        "constrained_logprob": finite(each.constrained_logprob),
        "legal_mass": each.legal_mass,
        "tokens": each.tokens,
    }
    if texts is not None and (place := quoted_at(schema, each.path, each.value, texts)) is not None:
        fact["source"] = place
    return fact


def answer_facts(prepared: Prepared, found: Sequence[FieldValue]) -> list[dict[str, Any]]:
    """The values of an answer."""
    said = prepared.wish.said
    return field_facts(found, said.schema if said is not None else None, prepared.wish.texts)


def field_reader(prepared: Prepared) -> FieldReader | None:
    """Reads the values of an answer, if it is sure to be JSON."""
    return FieldReader() if prepared.wish.says_json else None


def call_facts(prepared: Prepared, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The tokens and fields of each tool call: OpenAI's own log-probs are for text only."""
    calls: dict[int, list[dict[str, Any]]] = {}
    reader = CallFields(prepared)
    for piece in pieces:
        if piece.call is not None:
            calls.setdefault(piece.call.index, []).extend(call_tokens(piece.shown))
            reader.feed(piece.call, piece.shown)
    fields = reader.end()
    return [{"index": index, "tokens": tokens, "fields": fields[index]} for index, tokens in sorted(calls.items())]


@dataclass(slots=True)
class CallFields:
    """The values in the arguments of a choice's calls, as they grow."""

    prepared: Prepared
    _names: dict[int, str] = field(default_factory=dict)
    _readers: dict[int, FieldReader] = field(default_factory=dict)
    _found: dict[int, list[FieldValue]] = field(default_factory=dict)

    def feed(self, call: CallPiece, shown: Sequence[Shown]) -> list[dict[str, Any]]:
        """The values that this part of a call completes."""
        reader = self._readers.setdefault(call.index, FieldReader())
        if call.name is not None:
            self._names[call.index] = call.name
        found = reader.feed(shown) if call.name is None else []
        self._found.setdefault(call.index, []).extend(found)
        return self._told(call.index, found)

    def end(self) -> dict[int, list[dict[str, Any]]]:
        """All values, by the call's index."""
        return {
            index: self._told(index, [*self._found[index], *reader.end()])
            for index, reader in sorted(self._readers.items())
        }

    def _told(self, index: int, found: Sequence[FieldValue]) -> list[dict[str, Any]]:
        box = self.prepared.wish.toolbox
        schema = box.parameters_of(self._names.get(index)) if box is not None else None
        return field_facts(found, schema, self.prepared.wish.texts)


def call_tokens(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    return [
        {"token": spelled(each.data), "logprob": finite(each.token.logprob), **_token_fact(each.token)}
        for each in shown
        if each.data
    ]


def token_facts(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """The `formwork` list that stands beside the log-probs, entry by entry."""
    return [_token_fact(each.token) for each in shown]


def _token_fact(token: Token) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "constrained_logprob": finite(token.constrained_logprob),
        "legal_mass": token.legal_mass,
        "forced": token.forced,
    }


def finish_facts(index: int, finish: Finish) -> dict[str, Any]:
    """One choice's end."""
    stop = finish.stop
    return {
        "index": index,
        "closed_by_budget": finish.closed_by_budget,
        "forced_tokens": finish.forced_tokens,
        "passes": finish.passes,
        "jumped_tokens": finish.jumped_tokens,
        "guesses": {each.proposer: {"proposed": each.proposed, "accepted": each.accepted} for each in finish.guessed},
        "stop": stop.decode(errors="replace") if isinstance(stop, bytes) else stop,
    }


def formwork_block(prepared: Prepared, summary: Summary, told: Sequence[Told] = ()) -> dict[str, Any]:
    """The block of a finished response: each choice's end and values; with `told`, its tokens too."""
    choices = []
    for index, finish in sorted(summary.finishes.items()):
        facts = finish_facts(index, finish)
        if told:
            facts["tokens"] = token_facts(all_shown(told[index].pieces))
        choices.append(facts | value_facts(prepared, (summary.pieces or {}).get(index, ())))
    finishes = [finish for _, finish in sorted(summary.finishes.items())]  # not in the order in which they ended
    block: dict[str, Any] = {
        "seed": prepared.seed,
        "watermark": watermark_block(finishes),
        "choices": choices,
        "timings": _timings(prepared, finishes),
    }
    if prepared.compiled is not None:
        block["grammar"] = prepared.compiled.plan.fingerprint
        block["grammar_cached"] = prepared.compiled.cached
    return block


def value_facts(prepared: Prepared, pieces: Sequence[Piece]) -> dict[str, Any]:
    """A choice's values, and its calls'; nothing where it has none."""
    facts: dict[str, Any] = {}
    if pieces and (reader := field_reader(prepared)) is not None:
        facts["fields"] = answer_facts(prepared, [*reader.feed(all_shown(pieces)), *reader.end()])
    if calls := call_facts(prepared, pieces):
        facts["calls"] = calls
    return facts


def watermark_block(finishes: Sequence[Finish]) -> dict[str, Any]:
    """The watermark over all choices; the first one's words where they agree on nothing more."""
    reports = [finish.mark for finish in finishes]
    first = next((report for report in reports if report.applied), reports[0])
    return {
        "applied": first.applied,
        "scheme": first.scheme,
        "key_id": first.key_id,
        "eligible": sum(report.eligible for report in reports),
        "reason": first.reason,
        "expected_p": first.expected_p,
    }


def all_shown(pieces: Sequence[Piece]) -> list[Shown]:
    """The tokens of a whole choice's text."""
    return [shown for piece in pieces if piece.call is None and piece.refusal is None for shown in piece.shown]


def _timings(prepared: Prepared, finishes: Sequence[Finish]) -> dict[str, float]:
    compiled = prepared.compiled
    return {
        "compile": compiled.compile_s if compiled and not compiled.cached else 0.0,
        "queue": max(finish.queue_s for finish in finishes),
        "prefill": max(finish.prefill_s for finish in finishes),
        "decode": max(finish.decode_s for finish in finishes),
    }
