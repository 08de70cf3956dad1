"""OpenAI's legacy completions, and vLLM's /tokenize and /detokenize.

What it is for: `POST /v1/completions`, `/tokenize` and `/detokenize`. What may not enter: behaviour.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import FormworkBlock, Reply, Request, TokenId
from schemas.chat import Message, PromptLogprobs, ResponseFormat, Sampler, Tool, Usage

TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=262_144)]


class CompletionRequest(Sampler):
    """A text completion request; `suffix` is refused."""

    prompt: (
        str
        | TokenIds
        | Annotated[list[str], Field(min_length=1, max_length=64)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=64)]
    )
    max_tokens: Annotated[int, Field(gt=0, le=2**31 - 1)] | None = 16
    best_of: int | None = Field(default=None, ge=1, le=128)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    suffix: None = Field(default=None, description="Not supported; null is accepted.")
    response_format: ResponseFormat | None = None


class CompletionLogprobs(Reply):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Reply):
    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogprobs | None
    prompt_logprobs: PromptLogprobs | None = Field(default=None, description="By token id; null for the first.")


class Completion(Reply):
    """A text completion, and each event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    formwork: FormworkBlock | dict[str, Any] | None = None


class TokenizeRequest(Request):
    """vLLM's form has `prompt` or `messages`; TGI's has `inputs`. Exactly one of them."""

    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    inputs: str | None = None
    add_special_tokens: bool | None = None
    model: str | None = None


class TokenizeReply(Reply):
    count: int
    max_model_len: int
    tokens: list[int]


class DetokenizeRequest(Request):
    tokens: Annotated[list[TokenId], Field(max_length=262_144)]
    model: str | None = None


class DetokenizeReply(Reply):
    prompt: str
