"""Gemini's API: generateContent, its stream, countTokens, models.

What it is for: `POST /v1beta/models/{model}:generateContent` and what its clients ask beside it. What may not enter:
behaviour. Names may be spelled `responseSchema` or `response_schema`, as there. What would need something that is not
here (images, files, Google's own tools, cached contents, filters) is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from schemas.base import FormworkRequest, JsonSchema, PositiveInt, Reply, Request, Seed, StopString

Count = int | Annotated[str, Field(pattern=r"^[0-9]{1,18}$", description="Protocol buffers write int64 so.")]
TypeName = Literal["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL", "TYPE_UNSPECIFIED"]


class Spelled(Request):
    """Base of all requests here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class GeminiSchema(Spelled):
    """The subset of OpenAPI's schemas that `responseSchema` and `parameters` are in; types may be in lower case."""

    type: TypeName | Literal["string", "number", "integer", "boolean", "array", "object", "null"] | None = None
    format: str | None = Field(default=None, max_length=64)
    title: str | None = None
    description: str | None = None
    nullable: bool | None = None
    enum: list[str | int | float | bool] | None = None
    default: Any = None
    example: Any = None
    properties: dict[str, GeminiSchema] | None = None
    property_ordering: list[str] | None = None
    required: list[str] | None = None
    additional_properties: bool | GeminiSchema | None = None
    min_properties: Count | None = None
    max_properties: Count | None = None
    items: GeminiSchema | None = None
    min_items: Count | None = None
    max_items: Count | None = None
    min_length: Count | None = None
    max_length: Count | None = None
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    any_of: list[GeminiSchema] | None = None
    ref: str | None = None
    defs: dict[str, GeminiSchema] | None = None


class GeminiCall(Spelled):
    id: str | None = None
    name: str
    args: dict[str, Any] | None = None


class GeminiResult(Spelled):
    id: str | None = None
    name: str
    response: dict[str, Any]


class GeminiPart(Spelled):
    """One of text, a call, and the result of one."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = Field(default=None, description="Accepted: nothing here is signed.")
    function_call: GeminiCall | None = None
    function_response: GeminiResult | None = None


class GeminiContent(Spelled):
    role: Literal["user", "model", "function", "system"] | None = None
    parts: list[GeminiPart] = Field(min_length=1, max_length=4096)


class GeminiFunction(Spelled):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.:\-]+$")
    description: str | None = None
    parameters: GeminiSchema | None = None
    parameters_json_schema: JsonSchema | None = None
    response: dict[str, Any] | None = Field(default=None, description="Accepted: results are not checked.")
    response_json_schema: JsonSchema | None = Field(default=None, description="Accepted: results are not checked.")
    behavior: Literal["UNSPECIFIED", "BLOCKING"] | None = None


class GeminiTool(Spelled):
    function_declarations: list[GeminiFunction] = Field(max_length=256)


class FunctionCalling(Spelled):
    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = Field(
        default=None, description="VALIDATED is AUTO: calls always validate."
    )
    allowed_function_names: list[str] | None = None
    stream_function_call_arguments: Literal[False] | None = Field(default=None, description="Calls are told whole.")


class GeminiToolConfig(Spelled):
    function_calling_config: FunctionCalling | None = None


class ThinkingConfig(Spelled):
    include_thoughts: bool | None = None
    thinking_budget: int | None = Field(default=None, ge=-1, description="-1: as much as the model wants; 0: none.")
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "minimal", "low", "medium", "high"] | None = None


class GenerationConfig(Spelled):
    candidate_count: int | None = Field(default=None, ge=1, le=128)
    max_output_tokens: PositiveInt | None = None
    stop_sequences: Annotated[list[StopString], Field(max_length=16)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | Annotated[float, Field(ge=0, le=2**31 - 1)] | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: Seed | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
    response_mime_type: Literal["text/plain", "application/json", "text/x.enum"] | None = None
    response_schema: GeminiSchema | None = None
    response_json_schema: JsonSchema | None = None
    response_modalities: list[Literal["TEXT", "text"]] | None = Field(default=None, description="Only text.")
    thinking_config: ThinkingConfig | None = None


class SafetySetting(Spelled):
    category: str
    threshold: Literal["BLOCK_NONE", "OFF"] = Field(description="Nothing is filtered here.")


class GeminiRequest(Spelled):
    """A request to generate content."""

    contents: list[GeminiContent] = Field(min_length=1, max_length=4096)
    system_instruction: GeminiContent | None = None
    tools: Annotated[list[GeminiTool], Field(max_length=64)] | None = None
    tool_config: GeminiToolConfig | None = None
    generation_config: GenerationConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    cached_content: None = Field(default=None, description="Not supported; prefixes are shared without it.")
    labels: dict[str, str] | None = Field(default=None, description="Accepted.")
    service_tier: str | None = Field(default=None, description="Accepted: there is one tier.")
    store: Literal[False] | None = Field(default=None, description="Nothing is stored on this route.")
    model: str | None = Field(default=None, max_length=512, description="Accepted: the path names the model.")
    formwork: FormworkRequest | None = None


class GeminiCountRequest(Spelled):
    """A prompt to be counted: bare contents, or a whole request."""

    contents: Annotated[list[GeminiContent], Field(min_length=1, max_length=4096)] | None = None
    generate_content_request: GeminiRequest | None = None


class StreamQuery(Request):
    """The query of `:streamGenerateContent`."""

    alt: Literal["sse"] = Field(description="Server-sent events; there is no other kind of stream.")


class Told(Reply):
    """Base of all replies here."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class GeminiUsage(Told):
    """`candidatesTokenCount` and `thoughtsTokenCount` together are all that was generated."""

    prompt_token_count: int
    candidates_token_count: int
    thoughts_token_count: int
    cached_content_token_count: int
    total_token_count: int


class GeminiLogprob(Told):
    token: str
    token_id: int
    log_probability: float


class GeminiTop(Told):
    candidates: list[GeminiLogprob]


class GeminiLogprobs(Told):
    chosen_candidates: list[GeminiLogprob]
    top_candidates: list[GeminiTop]


class GeminiCandidate(Told):
    content: dict[str, Any]
    index: int
    finish_reason: Literal["STOP", "MAX_TOKENS", "SAFETY"] | None = None
    finish_message: str | None = Field(default=None, description="The text of a refusal.")
    avg_logprobs: float | None = None
    logprobs_result: GeminiLogprobs | None = None


class GeminiReply(Told):
    """The whole answer, and each event of a stream."""

    candidates: list[GeminiCandidate]
    usage_metadata: GeminiUsage
    model_version: str
    response_id: str
    formwork: dict[str, Any] | None = None


class GeminiCountReply(Told):
    total_tokens: int


class GeminiModel(Told):
    name: str
    display_name: str
    version: str
    input_token_limit: int
    output_token_limit: int
    supported_generation_methods: list[str]


class GeminiModels(Told):
    models: list[GeminiModel]


class GeminiErrorDetail(Told):
    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = Field(default_factory=list)
    formwork: dict[str, Any] | None = None


class GeminiError(Told):
    """An error on Gemini's routes."""

    error: GeminiErrorDetail
