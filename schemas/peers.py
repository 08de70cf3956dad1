"""The native routes of llama.cpp's server and of SGLang.

What it is for: `POST /completion` (llama.cpp) and `POST /generate` with `text` or `input_ids` (SGLang; TGI's has
`inputs`). What may not enter: behaviour.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import FormworkRequest, JsonSchema, Reply, Request, StopString, TokenId
from schemas.completions import TokenIds

Stops = Annotated[list[StopString], Field(max_length=16)]
Bias = list[Annotated[list[float | Literal[False]], Field(min_length=2, max_length=2)]]


class LlamaRequest(Request):
    """llama.cpp's completion; the last group steers its own runtime and changes nothing here."""

    prompt: str | TokenIds
    n_predict: int | None = Field(default=None, ge=-1, le=2**31 - 1, description="-1: as much as fits.")
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repeat_penalty: float | None = Field(default=None, gt=0, le=100)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-1, lt=2**63, description="-1: a fresh one.")
    stop: Stops | None = None
    stream: bool | None = None
    grammar: str | None = Field(default=None, description="GBNF.")
    json_schema: JsonSchema | None = None
    n_probs: int | None = Field(default=None, ge=0, le=20)
    post_sampling_probs: Literal[False] | None = Field(
        default=None, description="Log-probs are the model's own; formwork tells the constrained ones beside them."
    )
    logit_bias: Bias | dict[str, float] | None = None
    ignore_eos: bool | None = None
    return_tokens: bool | None = None
    model: str | None = Field(default=None, max_length=512)
    cache_prompt: bool | None = Field(default=None, description="Accepted: prefixes are always shared.")
    id_slot: int | None = Field(default=None, description="Accepted: there are no slots.")
    n_keep: int | None = Field(default=None, description="Accepted: no context is ever shifted.")
    timings_per_token: bool | None = Field(default=None, description="Accepted: timings come with the end.")
    formwork: FormworkRequest | None = None


class LlamaReply(Reply):
    """A completion, and each event of its stream (whose last one has `stop: true`)."""

    index: int
    content: str
    tokens: list[int]
    stop: bool
    id_slot: int
    model: str | None = None
    prompt: str | None = None
    tokens_predicted: int
    tokens_evaluated: int
    stop_type: Literal["eos", "limit", "word", "none"] | None = None
    stopping_word: str | None = None
    truncated: bool | None = None
    tokens_cached: int | None = None
    generation_settings: dict[str, Any] | None = None
    timings: dict[str, float] | None = None
    completion_probabilities: list[dict[str, Any]] | None = None
    formwork: dict[str, Any] | None = None


class SglangSampling(Request):
    max_new_tokens: int | None = Field(default=None, gt=0, le=2**31 - 1, description="SGLang's default: 128.")
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    min_new_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    sampling_seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: StopString | Stops | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    no_stop_trim: bool | None = None
    skip_special_tokens: Literal[True] | None = Field(default=None, description="They are never part of the text.")
    spaces_between_special_tokens: bool | None = Field(default=None, description="Accepted: none are shown.")
    json_schema: str | JsonSchema | None = None
    regex: str | None = None
    ebnf: str | None = None
    structural_tag: str | dict[str, Any] | None = None
    logit_bias: dict[str, float] | None = None


class SglangRequest(Request):
    """SGLang's generate, for one prompt."""

    text: str | None = None
    input_ids: TokenIds | None = None
    sampling_params: SglangSampling | None = None
    return_logprob: bool | None = None
    top_logprobs_num: int | None = Field(default=None, ge=0, le=20)
    logprob_start_len: Literal[-1] | None = Field(default=None, description="Log-probs of the output only.")
    return_text_in_logprobs: bool | None = None
    stream: bool | None = None
    rid: str | None = Field(default=None, description="Accepted: answers have ids of their own.")
    model: str | None = Field(default=None, max_length=512)
    formwork: FormworkRequest | None = None


class SglangReply(Reply):
    """One output; `n` above 1 gives an array of them. In a stream `text` grows."""

    text: str
    output_ids: list[int]
    meta_info: dict[str, Any]
    index: int | None = None
