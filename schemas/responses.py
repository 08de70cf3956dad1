"""OpenAI's Responses: request, response, and the events of a stream.

What it is for: `POST /v1/responses`. What may not enter: behaviour. Its words differ from chat's (items in place of
messages, `text.format` in place of `response_format`), its meaning does not: `service.dialects.responses` says which is
which. What refers to a stored response is refused where nothing is stored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field
from pydantic import Tag as For

from schemas.base import FormworkBlock, FormworkRequest, JsonSchema, PositiveInt, Reply, Request, Seed
from schemas.chat import Constraints, CustomFormat, JsonObjectFormat, TextFormat, TokenLogprob


class InputText(Request):
    """Text of a message; an answer that is sent back carries facts that a template cannot use."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str
    annotations: list[dict[str, Any]] | None = Field(default=None, description="Accepted.")
    logprobs: list[dict[str, Any]] | None = Field(default=None, description="Accepted.")
    prompt_cache_breakpoint: dict[str, Any] | None = Field(
        default=None, description="Accepted: prefixes are shared without it."
    )


class InputRefusal(Request):
    type: Literal["refusal"]
    refusal: str


InputPart = Annotated[InputText | InputRefusal, Field(discriminator="type")]
Includable = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class MessageItem(Request):
    """A turn; `id`, `status` and `phase` come back with answers and change nothing."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputPart]
    id: str | None = None
    status: ItemStatus | None = None
    phase: str | None = None


class Called(Request):
    """What calls and their outputs share: nothing here calls tools but the model itself."""

    caller: dict[str, Any] | None = Field(default=None, description="Accepted.")
    async_: Literal[False] | None = Field(default=None, alias="async", description="Calls are answered in their turn.")


class CallItem(Called):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: ItemStatus | None = None


class CustomCallItem(Called):
    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    id: str | None = None
    status: ItemStatus | None = None


class CallOutputItem(Called):
    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: str
    output: str | list[InputPart]
    id: str | None = None
    status: ItemStatus | None = None


class ReasoningItem(Request):
    type: Literal["reasoning"]
    summary: list[InputText] = Field(default_factory=list)
    content: list[InputText] | None = None
    id: str | None = None
    status: ItemStatus | None = None
    encrypted_content: None = Field(default=None, description="Accepted as null; nothing here is encrypted.")


def _item_type(value: Any) -> str | None:
    """A message may leave its type out."""
    return value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", None)


InputItem = Annotated[
    Annotated[MessageItem, For("message")]
    | Annotated[CallItem, For("function_call")]
    | Annotated[CustomCallItem, For("custom_tool_call")]
    | Annotated[CallOutputItem, For("function_call_output")]
    | Annotated[CallOutputItem, For("custom_tool_call_output")]
    | Annotated[ReasoningItem, For("reasoning")],
    Discriminator(_item_type),
]


class FlatTools(Request):
    """What tools share: they are known from the start, and called by the model itself."""

    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    async_: Literal[False] | None = Field(default=None, alias="async")


class FlatFunction(FlatTools):
    """A function tool; Responses spell it flat."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = Field(default=None, description="Accepted: parameters are enforced in both cases.")
    output_schema: dict[str, Any] | None = Field(default=None, description="Accepted: outputs are not checked.")


class FlatCustom(FlatTools):
    type: Literal["custom"]
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")
    description: str | None = None
    format: CustomFormat | None = None


FlatTool = Annotated[FlatFunction | FlatCustom, Field(discriminator="type")]


class FlatNamed(Request):
    type: Literal["function", "custom"]
    name: str


class FlatAllowed(Request):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FlatNamed] = Field(min_length=1, max_length=256)


class FlatSchemaFormat(Request):
    type: Literal["json_schema"]
    name: str = Field(default="response", min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\- ]+$")
    description: str | None = None
    schema_: JsonSchema = Field(alias="schema")
    strict: bool | None = Field(default=None, description="Accepted: the schema is enforced in both cases.")


class TextConfig(Request):
    format: Annotated[TextFormat | JsonObjectFormat | FlatSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = Field(default=None, description="Passed to the chat template.")


class ReasoningConfig(Request):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = Field(
        default=None, description="Accepted: reasoning is told whole, not summarised."
    )
    generate_summary: Literal["auto", "concise", "detailed"] | None = Field(
        default=None, description="The older name of summary."
    )
    mode: Literal["standard"] | None = None
    context: Literal["auto"] | None = Field(default=None, description="The chat template decides.")


class Obfuscation(Request):
    """The options of a stream; its usage always comes with the end."""

    include_obfuscation: bool | None = Field(default=None, description="Accepted: no padding is ever sent.")


class Prompted(Request):
    """What decides upon the prompt."""

    model: str | None = Field(default=None, max_length=512)
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    text: TextConfig | None = None
    tools: Annotated[list[FlatTool], Field(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatNamed | FlatAllowed | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["disabled"] | None = Field(default=None, description="A conversation is never cut here.")
    previous_response_id: str | None = Field(
        default=None, max_length=128, description="Refused unless the server stores responses (response_store_bytes)."
    )
    conversation: None = Field(default=None, description="Not supported; null is accepted.")


class TokensRequest(Prompted):
    """What a prompt would cost."""


class ResponsesRequest(Prompted, Constraints):
    """A request for a response; a constraint may also be spelled as vLLM's clients do."""

    max_output_tokens: PositiveInt | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    stream: bool | None = None
    stream_options: Obfuscation | None = None
    include: list[Includable] | None = Field(
        default=None, description="Log-probs come without being asked for; no reasoning is encrypted."
    )
    background: Literal[False] | None = Field(default=None, description="Only in the foreground.")
    prompt: None = Field(default=None, description="Not supported; null is accepted.")
    max_tool_calls: int | None = Field(default=None, ge=1, description="Accepted: it limits built-in tools only.")
    metadata: dict[str, str] | None = Field(default=None, description="Accepted, and told back.")
    store: bool | None = Field(
        default=None, description="Where the server stores responses, it does unless this is false; the reply tells."
    )
    service_tier: str | None = Field(default=None, description="Accepted: there is one tier.")
    prompt_cache_key: str | None = Field(default=None, description="Accepted: prefixes are shared without it.")
    prompt_cache_retention: str | None = Field(default=None, description="Accepted.")
    prompt_cache_options: dict[str, Any] | None = Field(default=None, description="Accepted.")
    safety_identifier: str | None = Field(default=None, description="Accepted.")
    user: str | None = Field(default=None, description="Accepted.")
    seed: Seed | None = Field(default=None, description="Not in OpenAI's API: repeats an answer.")
    formwork: FormworkRequest | None = None


class OutputText(Reply):
    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprob]


class OutputRefusal(Reply):
    type: Literal["refusal"]
    refusal: str


class OutputMessage(Reply):
    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputText | OutputRefusal]


class OutputCall(Reply):
    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class OutputCustomCall(Reply):
    type: Literal["custom_tool_call"]
    id: str
    call_id: str
    name: str
    input: str
    status: ItemStatus


class ReasoningText(Reply):
    type: Literal["reasoning_text"]
    text: str


class OutputReasoning(Reply):
    type: Literal["reasoning"]
    id: str
    summary: list[ReasoningText]
    content: list[ReasoningText]
    status: ItemStatus


class InputTokensDetails(Reply):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Reply):
    reasoning_tokens: int


class ResponseUsage(Reply):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(Reply):
    reason: Literal["max_output_tokens"]


class ResponseError(Reply):
    code: str
    message: str


class ResponseObject(Reply):
    """A response, whole or as far as a stream has come."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputReasoning | OutputMessage | OutputCall | OutputCustomCall]
    usage: ResponseUsage | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    background: bool
    store: bool
    reasoning: dict[str, Any]
    service_tier: str
    max_tool_calls: int | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    user: str | None
    formwork: FormworkBlock | None = None


class RetrieveQuery(Request):
    """The query of `GET /v1/responses/{id}`."""

    include: list[Includable] | None = Field(default=None, description="Whatever there is comes anyway.")
    stream: Literal["false"] | None = Field(default=None, description="A stored response is told whole.")
    include_obfuscation: Literal["true", "false"] | None = Field(default=None, description="Accepted: see stream.")


class InputItemsQuery(Request):
    """The query of `GET /v1/responses/{id}/input_items`."""

    include: list[Includable] | None = Field(default=None, description="Whatever there is comes anyway.")

    limit: Annotated[int, Field(ge=1, le=100, strict=False)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = Field(default=None, max_length=128, description="Begin behind the item with this id.")


class InputItems(Reply):
    """What a stored response answered, earlier turns of the conversation included."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ResponseDeleted(Reply):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ResponseTokens(Reply):
    """What a request's prompt would cost."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class ResponseEvent(Reply):
    """One event of a stream; which fields beside the first two it has depends on its type."""

    type: str
    sequence_number: int
    response: ResponseObject | None = None
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    delta: str | None = None
    text: str | None = None
    logprobs: list[TokenLogprob] | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    refusal: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    formwork: dict[str, Any] | None = None
