"""OpenAI's chat completions: request, response, and the chunks of a stream.

What it is for: `POST /v1/chat/completions`, with the spellings of vLLM and TGI that chat clients send. What may not
enter: behaviour. Each field is honoured or refused by name; those marked "accepted" change nothing by their nature.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import (
    FormworkBlock,
    FormworkRequest,
    JsonSchema,
    PositiveInt,
    Reply,
    Request,
    Seed,
    StopString,
    TokenId,
)


class TextPart(Request):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = Field(
        default=None, description="Accepted: prefixes are shared without it."
    )


class RefusalPart(Request):
    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Content = str | list[Part]


class FunctionCallText(Request):
    name: str
    arguments: str = Field(description="A string holding JSON.")


class FunctionToolCall(Request):
    """A call as an answer told it; `type` may be left out."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCallText
    index: int | None = None


class CustomCallText(Request):
    name: str
    input: str


class CustomToolCall(Request):
    id: str
    type: Literal["custom"]
    custom: CustomCallText
    index: int | None = None


MessageToolCall = FunctionToolCall | CustomToolCall


class Message(Request):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=256)
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    # Clients send an assistant's message back as they received it; these carry nothing the template could use.
    annotations: list[dict[str, Any]] | None = Field(default=None, description="Accepted.")
    audio: None = Field(default=None, description="Accepted as null; audio is not supported.")
    function_call: FunctionCallText | None = Field(default=None, description="OpenAI's older form of one call.")
    reasoning: str | None = Field(default=None, description="vLLM's newer name for reasoning_content.")


class JsonSchemaFormat(Request):
    name: str = Field(default="response", min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\- ]+$")
    description: str | None = None
    schema_: JsonSchema = Field(alias="schema", description="The JSON Schema that the answer will conform to.")
    strict: bool | None = Field(default=None, description="Accepted: the schema is enforced in both cases.")


class TextFormat(Request):
    type: Literal["text"]


class JsonObjectFormat(Request):
    """Any JSON object; with `schema` (llama.cpp, Together) or `value` (TGI) the schema is enforced."""

    type: Literal["json_object"]
    schema_: JsonSchema | None = Field(default=None, alias="schema")
    value: JsonSchema | None = None


class SchemaFormat(Request):
    """OpenAI's form has `json_schema`; TGI's has `value`."""

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat | None = None
    value: JsonSchemaFormat | None = None


class JsonFormat(Request):
    """TGI's form."""

    type: Literal["json"]
    value: JsonSchema | str


class RegexFormat(Request):
    """TGI's form has `value`; Together's has `pattern`."""

    type: Literal["regex"]
    value: str | None = None
    pattern: str | None = None


class GrammarFormat(Request):
    """A context-free grammar; without `syntax`, a text with `::=` is GBNF and any other Lark."""

    type: Literal["grammar"]
    grammar: str
    syntax: Literal["lark", "gbnf"] | None = None


class StructuralTagFormat(Request):
    """Free text with constrained parts: vLLM's `structures` and `triggers`, or xgrammar's `format`."""

    type: Literal["structural_tag"]
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class SubstringFormat(Request):
    """A quotation: a run of the text's characters, or of its words or chunks (`{"substring_words": …}`)."""

    type: Literal["substring"]
    value: str | dict[str, Any]


ResponseFormat = Annotated[
    TextFormat
    | JsonObjectFormat
    | SchemaFormat
    | JsonFormat
    | RegexFormat
    | GrammarFormat
    | StructuralTagFormat
    | SubstringFormat,
    Field(discriminator="type"),
]


class FunctionDefinition(Request):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")
    description: str | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = Field(default=None, description="Accepted: parameters are enforced in both cases.")


class FunctionTool(Request):
    type: Literal["function"]
    function: FunctionDefinition


class FreeInput(Request):
    type: Literal["text"]


class InputGrammar(Request):
    syntax: Literal["regex", "lark"]
    definition: str


class GrammarInput(Request):
    """Chat nests the grammar; Responses spell it flat. Exactly one of the two."""

    type: Literal["grammar"]
    grammar: InputGrammar | None = None
    syntax: Literal["regex", "lark"] | None = None
    definition: str | None = None


CustomFormat = Annotated[FreeInput | GrammarInput, Field(discriminator="type")]


class CustomDefinition(Request):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.\-]+$")
    description: str | None = None
    format: CustomFormat | None = None


class CustomTool(Request):
    """A tool whose input is text, not JSON: any text, or one that matches a grammar."""

    type: Literal["custom"]
    custom: CustomDefinition


Tool = Annotated[FunctionTool | CustomTool, Field(discriminator="type")]


class Named(Request):
    name: str


class NamedToolChoice(Request):
    type: Literal["function"] = "function"
    function: Named


class NamedCustomChoice(Request):
    type: Literal["custom"]
    custom: Named


class AllowedTools(Request):
    mode: Literal["auto", "required"]
    tools: list[NamedToolChoice | NamedCustomChoice] = Field(min_length=1, max_length=256)


class AllowedToolsChoice(Request):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class StreamOptions(Request):
    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(default=None, description="Accepted: no padding is ever sent.")
    continuous_usage_stats: bool | None = None


class StructuredOutputs(Request):
    """vLLM's spelling of a constraint; exactly one of them."""

    json_: JsonSchema | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    structural_tag: dict[str, Any] | str | None = None
    json_object: bool | None = None


class Constraints(Request):
    """The spellings in which vLLM's and SGLang's clients put a constraint beside the prompt."""

    structured_outputs: StructuredOutputs | None = None
    guided_json: JsonSchema | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    regex: str | None = None
    ebnf: str | None = None
    json_schema: JsonSchema | str | None = None
    grammar: str | None = Field(default=None, description="llama.cpp's GBNF, or Lark.")
    structural_tag: dict[str, Any] | str | None = None


class Sampler(Constraints):
    """The sampling words that chat and completions share."""

    model: str | None = Field(default=None, max_length=512)
    n: int | None = Field(default=None, ge=1, le=128)
    seed: Seed | None = None
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=2**31 - 1, description="-1 and 0: no limit.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(default=None, max_length=1024)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    include_stop_str_in_output: bool | None = Field(default=None, description="vLLM's: the stop string stays.")
    skip_special_tokens: Literal[True] | None = Field(default=None, description="They are never part of the text.")
    spaces_between_special_tokens: bool | None = Field(default=None, description="Accepted: none are shown.")
    min_tokens: int | None = Field(default=None, ge=0, le=2**31 - 1)
    prompt_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="vLLM's: the log-prob of each prompt token, and so many alternatives."
    )
    ignore_eos: bool | None = None
    max_tokens: PositiveInt | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, description="Accepted.")
    formwork: FormworkRequest | None = None


class ChatRequest(Sampler):
    """A chat completion request."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    max_completion_tokens: PositiveInt | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: Annotated[list[Tool], Field(max_length=256)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | NamedToolChoice | NamedCustomChoice | AllowedToolsChoice | str | None
    ) = None
    functions: Annotated[list[FunctionDefinition], Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="OpenAI's older form of tools: one call an answer, told as `function_call`."
    )
    function_call: Literal["none", "auto"] | Named | None = Field(default=None, description="Goes with `functions`.")
    tool_prompt: str | None = Field(default=None, description="TGI's: stands in the system turn before the tools.")
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="Passed to the chat template; none: the answer begins without reasoning."
    )
    thinking_token_budget: int | None = Field(default=None, ge=0, description="vLLM's: most tokens of reasoning.")
    chat_template_kwargs: dict[str, Any] | None = Field(default=None, description="Passed to the chat template.")
    metadata: dict[str, str] | None = Field(default=None, description="Accepted.")
    store: bool | None = Field(default=None, description="Accepted: nothing is ever stored.")
    service_tier: str | None = Field(default=None, description="Accepted: there is one tier.")
    prompt_cache_key: str | None = Field(default=None, description="Accepted: prefixes are shared without it.")
    prompt_cache_retention: str | None = Field(default=None, description="Accepted.")
    prompt_cache_options: dict[str, Any] | None = Field(default=None, description="Accepted.")
    safety_identifier: str | None = Field(default=None, description="Accepted.")
    verbosity: Literal["low", "medium", "high"] | None = Field(default=None, description="Passed to the chat template.")
    modalities: list[Literal["text"]] | None = Field(default=None, description="Only text.")


class TopLogprob(Reply):
    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Reply):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None = None


class FunctionCall(Reply):
    name: str
    arguments: str


class ToolCall(Reply):
    id: str
    type: Literal["function"]
    function: FunctionCall


class CustomInput(Reply):
    name: str
    input: str


class CustomCall(Reply):
    id: str
    type: Literal["custom"]
    custom: CustomInput


class ReplyMessage(Reply):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall | CustomCall] | None = None
    function_call: FunctionCall | None = None
    annotations: list[dict[str, Any]] = Field(default_factory=list)


FinishWord = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Choice(Reply):
    index: int
    finish_reason: FinishWord
    message: ReplyMessage
    logprobs: ChoiceLogprobs | None


class PromptTokensDetails(Reply):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(Reply):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Reply):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class PromptLogprob(Reply):
    """vLLM's; `rank` is told of those among the alternatives."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]


class ChatCompletion(Reply):
    """A chat completion response."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    service_tier: str | None = None
    choices: list[Choice]
    usage: Usage
    prompt_logprobs: PromptLogprobs | None = Field(default=None, description="By token id; null for the first.")
    formwork: FormworkBlock


class FunctionDelta(Reply):
    name: str | None = None
    arguments: str


class CustomDelta(Reply):
    name: str | None = None
    input: str


class ToolCallDelta(Reply):
    index: int
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    function: FunctionDelta | None = None
    custom: CustomDelta | None = None


class Delta(Reply):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None


class ChunkChoice(Reply):
    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishWord | None


class ChatChunk(Reply):
    """One event of a chat stream; `formwork` carries its tokens' facts, and in a choice's last chunk the summary."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    formwork: dict[str, Any] | None = None
