"""What all wire models share: strictness, and Formwork's own extension of requests and responses.

What it is for: the two base classes and the `formwork` key. What may not enter: behaviour, imports of other rooms.

The idea: a request field is honoured or refused by name, never ignored, so request models forbid what they do not know
and coerce nothing (`"5"` is not 5). Replies are described here and rendered by the service.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

JsonSchema = dict[str, Any] | bool
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


_MOST_MEMBERS = 1024  # of one object in a request; schemas and what else is the client's own may have more


def _narrow(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_MEMBERS:
        told = {"members": len(value), "most": _MOST_MEMBERS}
        raise PydanticCustomError("too_many_members", "{members} members; at most {most} are accepted", told)
    return value


def _hasten(schema: Any) -> None:
    """Lets the first mistake end a list, and a mapping be counted before it is read, however deep they stand."""
    if isinstance(schema, list | tuple):
        for part in schema:
            _hasten(part)
    if not isinstance(schema, dict) or _is_narrowed(schema):
        return
    for part in schema.values():
        _hasten(part)
    kind = str(schema.get("type"))  # among a model's fields, one may have this name
    if kind in {"list", "tuple"}:
        schema["fail_fast"] = True
    elif kind == "dict" and schema.get("values_schema", {}).get("type", "any") != "any":
        wrapped = no_info_before_validator_function(_narrow, cast("CoreSchema", dict(schema)))
        schema.clear()
        schema.update(wrapped)


def _is_narrowed(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "function-before" and schema["function"]["function"] is _narrow


class Request(BaseModel):
    """Base of everything a client sends.

    A list of mistakes as long as a body, each with its place, would be seconds of work for one sentence.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True, protected_namespaces=())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _hasten(schema)  # in place: what is wrapped here would lose its name in the OpenAPI document
        return schema

    @model_validator(mode="before")
    @classmethod
    def _few_members(cls, value: Any) -> Any:
        return _narrow(value)


class Reply(BaseModel):
    """Base of everything a client is sent; it describes the documentation and the tests."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class FormworkRequest(Request):
    """Formwork's own additions to a request; standard clients send them as `extra_body={"formwork": …}`."""

    watermark: bool | None = Field(
        default=None, description="false asks for no watermark; absent or null: the server's policy."
    )
    schema_in_prompt: bool = Field(
        default=False, description="Add the schema to the prompt, for chat templates that ignore response_format."
    )
    whitespace: Literal["json", "spaced", "compact"] | None = Field(
        default=None, description='Whitespace in constrained JSON: any JSON has, ", " and ": " (default), or none.'
    )
    property_order: Literal["schema", "any"] | None = Field(
        default=None, description="Order of an object's named properties: as in the schema (default), or any."
    )
    formats: Literal["assert", "narrow", "annotation"] | None = Field(
        default=None,
        description="Whether `format` is enforced. By default (`narrow`) it is, and a format of which whole kinds of "
        "texts cannot be offered (`hostname`: no xn--…) is offered without them; `assert` refuses it.",
    )
    grammar: str | None = Field(default=None, max_length=128, description="Name of a constraint made at /v1/grammars.")
    events: Literal["fields"] | None = Field(
        default=None, description="A stream tells each value of a JSON answer, typed, as soon as it is complete."
    )
    jump: bool = Field(
        default=False,
        description="Take text that the constraint forces in the tokenizer's own spelling, without drawing it: "
        "a little faster, and the model's mass on other spellings is given up.",
    )
    deadline_s: float | None = Field(default=None, gt=0, le=86400, description="Give up after so many seconds (504).")
    priority: int = Field(default=0, ge=-100, le=100, description="Higher is scheduled first.")


class WatermarkBlock(Reply):
    applied: bool
    scheme: str | None = None
    key_id: str | None = None
    eligible: int = Field(default=0, description="Positions where the scheme chose, over all choices of the response.")
    reason: str | None = Field(default=None, description="Why it was not applied.")
    expected_p: float | None = Field(default=None, description="The p-value that the detector is expected to report.")


class TokenBlock(Reply):
    """What stands beside a token's log-prob: the same under the mask, and the mask's raw probability."""

    token_id: int
    constrained_logprob: float
    legal_mass: float
    forced: bool


class QuotedFrom(Reply):
    """Where in the input a value was quoted from: the first place, in characters, and how many there are."""

    message: int = Field(description="Index in `messages`; 0 for a prompt.")
    start: int
    end: int
    count: int


class FieldBlock(Reply):
    """One value of a JSON answer and how sure the model was of it."""

    path: str = Field(description="JSON Pointer.")
    value: Any
    logprob: float = Field(description="Sum over the value's tokens of the model's own log-probs.")
    constrained_logprob: float
    legal_mass: float = Field(description="The least of its tokens'.")
    tokens: int
    source: QuotedFrom | None = Field(default=None, description="Of a string that the schema wants quoted (x-source).")


class CallTokens(Reply):
    """The tokens of a tool call up to its arguments' end, and how sure the model was of each argument."""

    index: int
    tokens: list[dict[str, Any]]
    fields: list[FieldBlock] = Field(default=[], description="Of its arguments; a custom tool's text is `/input`.")


class GuessBlock(Reply):
    """What one proposer's guesses at coming tokens came to."""

    proposed: int = Field(description="Guesses that a forward pass verified.")
    accepted: int = Field(description="Those that were drawn.")


class FormworkChoice(Reply):
    """One choice's facts."""

    index: int
    closed_by_budget: bool = Field(description="The token budget excluded tokens that the grammar alone allowed.")
    forced_tokens: int = Field(description="Tokens that were the only legal one.")
    passes: int = Field(description="Forward passes that brought tokens; fewer than tokens where guesses came true.")
    jumped_tokens: int = Field(default=0, description="Taken without a draw, as `jump` allowed.")
    guesses: dict[str, GuessBlock] = Field(
        default={}, description="By proposer: grammar, endings, ngram, heads, model."
    )
    stop: str | int | None = Field(default=None, description="The stop string or stop token id that ended the output.")
    tokens: list[TokenBlock] = []
    fields: list[FieldBlock] | None = Field(default=None, description="Of an answer under a JSON Schema.")
    calls: list[CallTokens] | None = None


class FormworkBlock(Reply):
    """Formwork's own additions to a response, under the key `formwork`."""

    seed: int = Field(description="The seed used; sent back as `seed` it repeats the answer.")
    watermark: WatermarkBlock
    choices: list[FormworkChoice] = []
    grammar: str | None = Field(default=None, description="Fingerprint of the constraint.")
    grammar_cached: bool | None = None
    timings: dict[str, float] = Field(default_factory=dict, description="Seconds: compile, queue, prefill, decode.")
