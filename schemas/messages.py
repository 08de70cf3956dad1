"""Anthropic's Messages: request, response, and the events of a stream.

What it is for: `POST /v1/messages` and `/v1/messages/count_tokens`. What may not enter: behaviour. Fields of its API
that would need something that is not here (images, documents, server tools, containers) are refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import FormworkBlock, FormworkRequest, JsonSchema, PositiveInt, Reply, Request, Seed, StopString

CacheControl = dict[str, Any]
_CACHED = Field(default=None, description="Accepted: prefixes are shared without it.")


class TextBlock(Request):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = _CACHED
    citations: list[dict[str, Any]] | None = Field(default=None, description="Accepted.")


class ToolUseBlock(Request):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = _CACHED
    caller: dict[str, Any] | None = Field(default=None, description="Accepted.")
    toolset_name: None = None


class ToolResultBlock(Request):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = Field(default=None, description="true: the model reads `error: ` before the content.")
    toolset_name: None = None
    cache_control: CacheControl | None = _CACHED


class ThinkingBlock(Request):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = Field(default=None, description="Accepted: nothing here is signed.")


Block = Annotated[TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Field(discriminator="type")]


class Turn(Request):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ClientTool(Request):
    type: Literal["custom"] | None = None
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")
    description: str | None = None
    input_schema: JsonSchema
    strict: bool | None = Field(default=None, description="Accepted: the schema is enforced in both cases.")
    cache_control: CacheControl | None = _CACHED
    input_examples: list[dict[str, Any]] | None = Field(default=None, description="Accepted.")
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    eager_input_streaming: bool | None = Field(default=None, description="Accepted: input always streams.")


class ToolChoice(Request):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Request):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(default=None, ge=1)
    display: Literal["summarized", "omitted"] | None = Field(
        default=None, description="omitted: the block is empty; summarized: it is told whole."
    )


class OutputFormat(Request):
    type: Literal["json_schema"]
    schema_: JsonSchema = Field(alias="schema")


class OutputConfig(Request):
    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class MessagesRequest(Request):
    """A request for a message."""

    model: str | None = Field(default=None, max_length=512)
    messages: list[Turn] = Field(min_length=1, max_length=4096)
    max_tokens: PositiveInt
    system: str | list[TextBlock] | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    tools: Annotated[list[ClientTool], Field(max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = Field(default=None, description="The older name of output_config.format.")
    stream: bool | None = None
    metadata: dict[str, Any] | None = Field(default=None, description="Accepted.")
    service_tier: str | None = Field(default=None, description="Accepted: there is one tier.")
    speed: Literal["standard"] | None = None
    user_profile_id: str | None = Field(default=None, description="Accepted.")
    container: None = Field(default=None, description="Not supported; null is accepted.")
    thread: dict[str, Any] | None = Field(
        default=None,
        description="Refused as a server does that holds no conversation, upon which clients send it whole.",
    )
    cache_control: CacheControl | None = _CACHED
    seed: Seed | None = Field(default=None, description="Not in Anthropic's API: repeats an answer.")
    formwork: FormworkRequest | None = None


class CountRequest(Request):
    """What a prompt would cost."""

    model: str | None = Field(default=None, max_length=512)
    messages: list[Turn] = Field(min_length=1, max_length=4096)
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[ClientTool], Field(max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    speed: Literal["standard"] | None = None
    user_profile_id: str | None = Field(default=None, description="Accepted.")
    cache_control: CacheControl | None = _CACHED


class ToldText(Reply):
    type: Literal["text"]
    text: str


class ToldThinking(Reply):
    type: Literal["thinking"]
    thinking: str
    signature: str


class ToldToolUse(Reply):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


StopWord = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageUsage(Reply):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageReply(Reply):
    """A message; `cache_read_input_tokens` are not counted again in `input_tokens`."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ToldText | ToldThinking | ToldToolUse]
    stop_reason: StopWord | None
    stop_sequence: str | None
    usage: MessageUsage
    formwork: FormworkBlock | None = None


class CountReply(Reply):
    input_tokens: int


class MessageEvent(Reply):
    """One event of a stream; which other fields it has depends on its type."""

    type: str
    message: MessageReply | None = None
    index: int | None = None
    content_block: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    usage: MessageUsage | None = None
    error: dict[str, Any] | None = None
    formwork: FormworkBlock | None = None


class AnthropicErrorDetail(Reply):
    type: str
    message: str
    details: dict[str, Any] | None = None
    formwork: dict[str, Any] | None = None


class AnthropicError(Reply):
    """An error on Anthropic's routes."""

    type: Literal["error"]
    error: AnthropicErrorDetail
