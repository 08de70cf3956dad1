"""Constraints as things of their own: compile, explain, name.

What it is for: `/v1/grammars`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from schemas.base import FormworkRequest, Reply, Request
from schemas.chat import ResponseFormat


class GrammarRequest(Request):
    name: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_.\-]+$")
    response_format: ResponseFormat = Field(description="The constraint, spelled as in a chat request.")
    formwork: FormworkRequest | None = None


class GrammarReply(Reply):
    object: Literal["grammar"]
    name: str | None
    fingerprint: str
    kind: str
    least_budget: int = Field(description="The fewest tokens that hold an output; a smaller max_tokens is refused.")
    nbytes: int
    compile_s: float
    cached: bool
    explanation: Any


class GrammarList(Reply):
    object: Literal["list"]
    data: list[GrammarReply]
