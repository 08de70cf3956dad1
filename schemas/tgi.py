"""TGI's native routes: `/`, `/generate`, `/generate_stream`, `/info`, `/tokenize`, `/chat_tokenize`.

What it is for: the requests and replies of text-generation-inference 3.3, so that its clients need only another URL.
What may not enter: behaviour; those of TGI's validation rules that need no model (ranges) are stated here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import FormworkRequest, JsonSchema, Reply, Request, StopString
from schemas.chat import JsonSchemaFormat


class JsonGrammar(Request):
    type: Literal["json", "json_object"]
    value: JsonSchema | str = Field(description="A JSON Schema, or a string holding one.")


class RegexGrammar(Request):
    type: Literal["regex"]
    value: str


class NamedSchemaGrammar(Request):
    type: Literal["json_schema"]
    value: JsonSchemaFormat


TgiGrammar = Annotated[JsonGrammar | RegexGrammar | NamedSchemaGrammar, Field(discriminator="type")]


class Parameters(Request):
    best_of: int | None = Field(default=None, ge=1, le=128)
    temperature: float | None = Field(default=None, gt=0, le=100)
    repetition_penalty: float | None = Field(default=None, gt=0, le=100)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    top_k: int | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, lt=1)
    typical_p: float | None = Field(default=None, gt=0, lt=1)
    do_sample: bool = False
    max_new_tokens: int | None = Field(default=None, gt=0, le=2**31 - 1)
    return_full_text: bool | None = None
    stop: tuple[StopString, ...] = Field(default=(), max_length=16, strict=False)
    truncate: int | None = Field(default=None, gt=0)
    watermark: bool = Field(
        default=False, description="true asks for a watermark; false leaves it to the server's policy."
    )
    details: bool = False
    decoder_input_details: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**64)
    top_n_tokens: int | None = Field(default=None, ge=0, le=20)
    grammar: TgiGrammar | None = None
    adapter_id: str | None = None


class GenerateRequest(Request):
    """The body of `/generate` and `/generate_stream`; `stream` counts on `/` only."""

    inputs: str
    parameters: Parameters = Parameters()
    stream: bool = False
    formwork: FormworkRequest | None = None


class VertexRequest(Request):
    """The body of `/vertex`: each instance is a `/generate` body, or a chat body without stream, tools and n."""

    instances: list[dict[str, Any]] = Field(min_length=1, max_length=128)


class VertexReply(Reply):
    predictions: list[str] = Field(description="The generated texts, in the order of the instances.")


class PrefillToken(Reply):
    id: int
    text: str
    logprob: float | None


class TgiToken(Reply):
    id: int
    text: str
    logprob: float
    special: bool


TgiFinish = Literal["length", "eos_token", "stop_sequence"]


class BestOfSequence(Reply):
    generated_text: str
    finish_reason: TgiFinish
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[TgiToken]
    top_tokens: list[list[TgiToken]] | None = None


class Details(Reply):
    finish_reason: TgiFinish
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[TgiToken]
    top_tokens: list[list[TgiToken]] | None = None
    best_of_sequences: list[BestOfSequence] | None = None
    formwork: dict[str, object] | None = None


class GenerateReply(Reply):
    generated_text: str
    details: Details | None = None


class StreamDetails(Reply):
    finish_reason: TgiFinish
    generated_tokens: int
    seed: int | None
    input_length: int
    formwork: dict[str, object] | None = None


class StreamEvent(Reply):
    index: int
    token: TgiToken
    top_tokens: list[TgiToken] | None = None
    generated_text: str | None
    details: StreamDetails | None


class Info(Reply):
    model_id: str
    model_sha: str | None
    model_pipeline_tag: str | None
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int
    max_client_batch_size: int
    router: str
    version: str
    sha: str | None
    docker_label: str | None


class TextToken(Reply):
    id: int
    text: str
    start: int
    stop: int


class ChatTokenizeReply(Reply):
    tokenize_response: list[TextToken]
    templated_text: str
