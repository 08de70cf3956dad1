"""The probability of each of a set of answers, without drawing any.

What it is for: `POST /v1/choices/score`. What may not enter: behaviour.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from schemas.base import Reply, Request
from schemas.chat import Message


class ScoreRequest(Request):
    """Either `prompt` or `messages`; the options (`choices` or `regex`) stand after it. Their order changes nothing."""

    model: str | None = Field(default=None, max_length=512)
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)] | None = None
    choices: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=10_000)]], Field(min_length=1, max_length=256)]
        | None
    ) = None
    regex: str | None = Field(
        default=None, min_length=1, description="In place of `choices`: all texts that it matches, at most 256."
    )
    ends: bool = Field(default=True, description="Count the end of the output after the option as part of it.")
    tokenizations: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Sum over so many spellings of an option: the tokenizer's own, then those of fewest tokens.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ScoreRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send exactly one of prompt and messages")
        if (self.choices is None) == (self.regex is None):
            raise ValueError("send exactly one of choices and regex")
        return self


class ScoredChoice(Reply):
    choice: str
    logprob: float = Field(description="The model's own, summed over the option's tokens.")
    probability: float = Field(description="exp(logprob).")
    share: float = Field(description="The probability among these options.")
    tokens: int = Field(description="Of the tokenizer's own spelling.")
    tokenizations: int = Field(description="How many spellings were summed.")
    complete: bool = Field(description="There are no more spellings than were summed.")


class ScoreReply(Reply):
    object: str
    model: str
    choices: list[ScoredChoice]
    best: str
    mass: float = Field(description="The probability of all these options together.")
    prompt_tokens: int
