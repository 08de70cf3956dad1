"""The native dialects of llama.cpp's server and of SGLang: requests as completions, pieces as their shapes.

What it is for: both directions; `schemas.peers` describes the words. What may not enter: HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.messages import Finish, FinishReason, Token
from engine.tokenizer import Tokenizer
from schemas.completions import CompletionRequest
from schemas.peers import LlamaRequest, SglangRequest, SglangSampling
from service.dialects.asking import translated
from service.dialects.facts import finite, formwork_block, spelled
from service.errors import InvalidBody
from service.gathering import Told
from service.generation import Prepared, Summary, aborted
from service.text import Piece, Shown

# How errors name fields: completions' words → these dialects'.
LLAMA_NAMES = {"max_tokens": "n_predict"}
SGLANG_NAMES = {
    "prompt": "text",
    **{
        f: f"sampling_params.{f}" for f in ("json_schema", "regex", "ebnf", "structural_tag", "n", "stop", "logit_bias")
    },
    "max_tokens": "sampling_params.max_new_tokens",
}
_NEVER = -100.0  # what llama.cpp says as `false`
_SGLANG_BUDGET = 128
_STOP_TYPES = {FinishReason.EOS: "eos", FinishReason.STOP: "word", FinishReason.LENGTH: "limit"}


def completion_of_llama(body: LlamaRequest) -> CompletionRequest:
    """llama.cpp's words in those of text completions."""
    asked = {
        "prompt": body.prompt,
        "temperature": 0.8 if body.temperature is None else body.temperature,
        "top_k": body.top_k,
        "top_p": body.top_p,
        "min_p": body.min_p,
        "typical_p": body.typical_p,
        "repetition_penalty": body.repeat_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "seed": body.seed if body.seed is not None and body.seed >= 0 else None,
        "stop": body.stop or None,
        "stream": body.stream,
        "grammar": body.grammar or None,
        "json_schema": body.json_schema,
        "logprobs": body.n_probs,
        "logit_bias": _bias(body) or None,
        "ignore_eos": body.ignore_eos,
        "max_tokens": body.n_predict if body.n_predict and body.n_predict > 0 else None,
    }
    return translated(asked, body.formwork, CompletionRequest, nulls={"max_tokens"})


def _bias(body: LlamaRequest) -> dict[str, float]:
    """llama.cpp's pairs of a token and a number, or `false` for never."""
    if isinstance(body.logit_bias, dict):
        return body.logit_bias
    bias: dict[str, float] = {}
    for token, value in body.logit_bias or ():
        if token is False or token != int(token):
            raise InvalidBody("the first of each pair is a token id", param="logit_bias")
        bias[str(int(token))] = _NEVER if value is False else value
    return bias


def completion_of_sglang(body: SglangRequest) -> CompletionRequest:
    """SGLang's words in those of text completions."""
    if (body.text is None) == (body.input_ids is None):
        raise InvalidBody("send exactly one of text and input_ids", param="text")
    sampling = body.sampling_params or SglangSampling()
    own = {"max_new_tokens", "min_new_tokens", "sampling_seed", "no_stop_trim"}
    accepted = {"skip_special_tokens", "spaces_between_special_tokens"}
    asked = {
        **sampling.model_dump(exclude_none=True, exclude=own | accepted),
        "prompt": body.text if body.text is not None else body.input_ids,
        "max_tokens": sampling.max_new_tokens or _SGLANG_BUDGET,
        "min_tokens": sampling.min_new_tokens,
        "seed": sampling.sampling_seed,
        "logprobs": body.top_logprobs_num,
        "stream": body.stream,
    }
    return translated(asked, body.formwork, CompletionRequest)


@dataclass(frozen=True, slots=True)
class LlamaVoice:
    """How one llama.cpp request is answered."""

    body: LlamaRequest
    prepared: Prepared
    tokenizer: Tokenizer
    model: str

    def event(self, piece: Piece, summary: Summary) -> dict[str, Any]:
        """One event of a stream."""
        event = self._told(piece.text, piece.tokens, piece.shown, summary)
        return {**event, "stop": False} if piece.finish is None else {**event, **self._end(piece.finish, summary)}

    def reply(self, told: Told, summary: Summary) -> dict[str, Any]:
        """The whole answer."""
        shown = [each for piece in told.pieces for each in piece.shown]
        tokens = [token for piece in told.pieces for token in piece.tokens] if self.body.return_tokens else []
        return {**self._told(told.text, tokens, shown, summary), **self._end(told.finish, summary)}

    def _told(self, text: str, tokens: Sequence[Token], shown: Sequence[Shown], summary: Summary) -> dict[str, Any]:
        told: dict[str, Any] = {
            "index": 0,
            "content": text,
            "tokens": [token.token_id for token in tokens],
            "id_slot": -1,
            "tokens_predicted": summary.completion_tokens,
            "tokens_evaluated": summary.prompt_tokens,
        }
        if self.body.n_probs:
            told["completion_probabilities"] = [self._probabilities(each) for each in shown if each.data]
        return told

    def _end(self, finish: Finish, summary: Summary) -> dict[str, Any]:
        if finish.reason is FinishReason.ABORTED:
            raise aborted()
        sampling = self.prepared.sampling
        return {
            "stop": True,
            "model": self.model,
            "prompt": self.body.prompt if isinstance(self.body.prompt, str) else "",
            "stop_type": _STOP_TYPES[finish.reason],
            "stopping_word": finish.stop.decode(errors="replace") if isinstance(finish.stop, bytes) else "",
            "truncated": False,
            "tokens_cached": summary.cached_tokens,
            "generation_settings": {
                "n_predict": sampling.max_tokens,
                "seed": sampling.seed,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
            },
            "timings": _timings(finish, summary),
            "formwork": formwork_block(self.prepared, summary),
        }

    def _probabilities(self, shown: Shown) -> dict[str, Any]:
        top = [self._entry(each.token_id, each.logprob) for each in shown.token.alternatives]
        return {**self._entry(shown.token.token_id, shown.token.logprob), "top_logprobs": top}

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        data = self.tokenizer.token_bytes(token_id)
        return {"id": token_id, "token": spelled(data), "bytes": list(data), "logprob": finite(logprob)}


def _timings(finish: Finish, summary: Summary) -> dict[str, float]:
    prompt_s, predicted_s = finish.prefill_s, finish.decode_s
    return {
        "prompt_n": summary.prompt_tokens,
        "prompt_ms": 1e3 * prompt_s,
        "prompt_per_second": summary.prompt_tokens / prompt_s if prompt_s else 0.0,
        "predicted_n": summary.completion_tokens,
        "predicted_ms": 1e3 * predicted_s,
        "predicted_per_second": summary.completion_tokens / predicted_s if predicted_s else 0.0,
    }


@dataclass(slots=True)
class SglangVoice:
    """How one SGLang request is answered; in a stream each event has the text so far."""

    body: SglangRequest
    prepared: Prepared
    tokenizer: Tokenizer
    _told: dict[int, Told] = field(default_factory=dict)

    def event(self, piece: Piece, summary: Summary) -> dict[str, Any]:
        """One event of a stream."""
        told = self._told.setdefault(piece.index, Told())
        told.pieces.append(piece)
        told.text += piece.text
        return {**self.output(told, piece.index, summary), "index": piece.index}

    def reply(self, told: Sequence[Told], summary: Summary) -> dict[str, Any] | list[dict[str, Any]]:
        """The whole answer."""
        outputs = [self.output(each, index, summary) for index, each in enumerate(told)]
        return outputs[0] if len(outputs) == 1 else outputs

    def output(self, told: Told, index: int, summary: Summary) -> dict[str, Any]:
        tokens = [token for piece in told.pieces for token in piece.tokens]
        finish = told.pieces[-1].finish
        meta: dict[str, Any] = {
            "id": f"{self.prepared.id}-{index}",
            "finish_reason": self._reason(finish) if finish else None,
            "prompt_tokens": summary.prompt_tokens,
            "completion_tokens": len(tokens),
            "cached_tokens": summary.cached_tokens,
        }
        if self.body.return_logprob:
            meta["output_token_logprobs"] = [self._triple(each.logprob, each.token_id) for each in tokens]
            if self.body.top_logprobs_num:
                meta["output_top_logprobs"] = [
                    [self._triple(other.logprob, other.token_id) for other in each.alternatives] for each in tokens
                ]
        if finish is not None:
            meta["e2e_latency"] = finish.queue_s + finish.prefill_s + finish.decode_s
            meta["formwork"] = formwork_block(self.prepared, summary)
        return {"text": told.text, "output_ids": [token.token_id for token in tokens], "meta_info": meta}

    def _reason(self, finish: Finish) -> dict[str, Any]:
        if finish.reason is FinishReason.ABORTED:
            raise aborted()
        if finish.reason is FinishReason.LENGTH:
            return {"type": "length", "length": self.prepared.sampling.max_tokens}
        if finish.reason is FinishReason.EOS:
            return {"type": "stop", "matched": self.tokenizer.eos_token_ids[0]}
        matched = finish.stop.decode(errors="replace") if isinstance(finish.stop, bytes) else finish.stop
        return {"type": "stop", "matched": matched}

    def _triple(self, logprob: float, token_id: int) -> list[Any]:
        text = self.tokenizer.token_text(token_id) if self.body.return_text_in_logprobs else None
        return [finite(logprob), token_id, text]
