"""OpenAI's text completions: the whole response and the events of a stream have one shape.

What it is for: pieces in, dictionaries out; `schemas.completions` describes them. What may not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.messages import Alternative, PromptToken
from engine.tokenizer import Tokenizer
from service.dialects.facts import (
    all_shown,
    finish_facts,
    finite,
    formwork_block,
    prompt_logprobs,
    spelled,
    value_facts,
    watermark_block,
)
from service.dialects.openai import Head, finish_word
from service.gathering import Told
from service.generation import Prepared, Summary
from service.text import Piece, Shown


@dataclass(slots=True)
class CompletionVoice:
    """How one request is answered; `echo` is what each prompt's choices begin with."""

    head: Head
    tokenizer: Tokenizer
    logprobs: int | None
    include_usage: bool = False
    prompt_logprobs: int | None = None
    _offsets: dict[int, int] = field(default_factory=dict)

    def choice(self, index: int, told: Told, echo: str) -> dict[str, Any]:
        """One whole choice."""
        self._offsets[index] = len(echo)
        logprobs = self._logprobs(index, all_shown(told.pieces))
        prompt = next((piece.prompt for piece in told.pieces if piece.prompt), None)
        if logprobs is not None and prompt is not None:
            logprobs = self._echoed(prompt, logprobs)
        choice = {
            "index": index,
            "text": echo + told.text,
            "finish_reason": finish_word(told.finish),
            "logprobs": logprobs,
        }
        if self.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(told.pieces, self.prompt_logprobs, self.tokenizer)
        return choice

    def block(self, asked: Sequence[tuple[Prepared, Summary, Sequence[Told]]]) -> dict[str, Any]:
        """The `formwork` block of all prompts and their choices that are answered."""
        blocks = []
        for prepared, summary, told in asked:
            finishes, pieces = dict(enumerate(each.finish for each in told)), None
            if summary.pieces is not None:
                pieces = {index: each.pieces for index, each in enumerate(told)}
            blocks.append(formwork_block(prepared, replace(summary, finishes=finishes, pieces=pieces)))
        choices = [choice for block in blocks for choice in block["choices"]]
        timings = {name: max(block["timings"][name] for block in blocks) for name in blocks[0]["timings"]}
        return {
            **blocks[0],
            "watermark": watermark_block([each.finish for _, _, told in asked for each in told]),
            "choices": [{**choice, "index": index} for index, choice in enumerate(choices)],
            "timings": timings,
        }

    def event(self, index: int, piece: Piece, echo: str, prepared: Prepared, summary: Summary) -> dict[str, Any]:
        """One event of a stream; the first of a choice carries the echo."""
        if index not in self._offsets:
            self._offsets[index] = len(echo)
        else:
            echo = ""
        logprobs = self._logprobs(index, piece.shown)
        if logprobs is not None and piece.prompt is not None:
            logprobs = self._echoed(piece.prompt, logprobs)
        choice = {
            "index": index,
            "text": echo + piece.text,
            "finish_reason": finish_word(piece.finish) if piece.finish else None,
            "logprobs": logprobs,
        }
        body: dict[str, Any] = {**self.head.of("text_completion"), "choices": [choice]}
        if piece.finish is not None:
            body["formwork"] = {
                **finish_facts(index, piece.finish),
                **value_facts(prepared, (summary.pieces or {}).get(piece.index, ())),
                "watermark": watermark_block([piece.finish]),
            }
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

    def _echoed(self, prompt: Sequence[PromptToken], logprobs: dict[str, Any]) -> dict[str, Any]:
        """The lists with the prompt's tokens before the output's."""
        data, offsets = b"", []
        for each in prompt:
            offsets.append(len(data.decode(errors="ignore")))
            data += self.tokenizer.token_bytes(each.token_id)
        told: dict[str, list[Any]] = {
            "tokens": [self._text(each.token_id) for each in prompt],
            "token_logprobs": [None if each.logprob is None else finite(each.logprob) for each in prompt],
            "top_logprobs": [None if each.logprob is None else self._tops(each.alternatives) for each in prompt],
            "text_offset": offsets,
        }
        return {name: None if logprobs[name] is None else [*told[name], *logprobs[name]] for name in logprobs}

    def _top(self, shown: Shown) -> dict[str, float]:
        return self._tops(shown.token.alternatives)

    def _tops(self, alternatives: Sequence[Alternative]) -> dict[str, float]:
        out: dict[str, float] = {}
        for each in alternatives[: self.logprobs]:  # two tokens may look alike; the likelier one is kept
            out.setdefault(self._text(each.token_id), finite(each.logprob))
        return out

    def _text(self, token_id: int) -> str:
        return spelled(self.tokenizer.token_bytes(token_id)) or self.tokenizer.token_text(token_id)
