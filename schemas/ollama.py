"""Ollama's API: chat, generate, and what its clients ask before them.

What it is for: `POST /api/chat`, `/api/generate`, `GET /api/tags`, `/api/version`. What may not enter: behaviour.
Options that steer its own runtime (`num_ctx`, `num_gpu`, …) change nothing here and are accepted; samplers that are not
here (mirostat, tail-free) are refused by name, unless they are told to do nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import FormworkRequest, JsonSchema, Reply, Request, StopString
from schemas.chat import FunctionTool


class OllamaFunction(Request):
    name: str
    arguments: dict[str, Any]
    index: int | None = None
    description: str | None = None


class OllamaCall(Request):
    function: OllamaFunction
    id: str | None = None
    type: str | None = None


class OllamaMessage(Request):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Annotated[list[str], Field(max_length=0)] | None = Field(default=None, description="Not supported.")
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    name: str | None = None
    tool_call_id: str | None = None


class Options(Request):
    """Sampling; the last group is accepted and changes nothing."""

    num_predict: int | None = Field(default=None, ge=-2, le=2**31 - 1, description="-1 and -2: as much as fits.")
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Annotated[list[StopString], Field(max_length=16)] | StopString | None = None
    repeat_penalty: float | None = Field(default=None, gt=0, le=100)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    num_ctx: int | None = None
    num_keep: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    repeat_last_n: Literal[-1] | None = Field(default=None, description="Penalties look at all of the text.")
    penalize_newline: Literal[True] | None = None
    mirostat: Literal[0] | None = None
    tfs_z: Literal[1] | None = None


class OllamaRequest(Request):
    """What chat and generate share."""

    model: str | None = Field(default=None, max_length=512)
    format: Literal["", "json"] | JsonSchema | None = Field(default=None, description='"json", or a JSON Schema.')
    options: Options | None = None
    stream: bool | None = Field(default=None, description="Streams unless false.")
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    keep_alive: str | int | float | None = Field(default=None, description="Accepted: the model is always loaded.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    formwork: FormworkRequest | None = None


class OllamaChatRequest(OllamaRequest):
    messages: list[OllamaMessage] = Field(min_length=1, max_length=4096)
    tools: Annotated[list[FunctionTool], Field(max_length=256)] | None = None


class OllamaGenerateRequest(OllamaRequest):
    prompt: str
    system: str | None = None
    raw: bool | None = Field(default=None, description="The prompt as it is, without the chat template.")
    suffix: Literal[""] | None = Field(default=None, description="Not supported; empty is accepted.")
    template: Literal[""] | None = Field(default=None, description="Not supported; empty is accepted.")
    context: Annotated[list[int], Field(max_length=0)] | None = Field(default=None, description="Not supported.")
    images: Annotated[list[str], Field(max_length=0)] | None = Field(default=None, description="Not supported.")


class OllamaLogprob(Reply):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[dict[str, Any]]


class OllamaTold(Reply):
    """What each line and each whole answer has; the counts and durations (ns) come with the last one."""

    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[OllamaLogprob] | None = None
    formwork: dict[str, Any] | None = None


class OllamaReplyMessage(Reply):
    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class OllamaChatReply(OllamaTold):
    message: OllamaReplyMessage


class OllamaGenerateReply(OllamaTold):
    response: str
    thinking: str | None = None
    context: list[int] | None = None


class OllamaTags(Reply):
    models: list[dict[str, Any]]


class OllamaVersion(Reply):
    version: str


class OllamaError(Reply):
    """An error on Ollama's routes."""

    error: str
