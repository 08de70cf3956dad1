"""The watermark's detector over HTTP.

What it is for: `POST /v1/watermark/detect`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from schemas.base import FormworkRequest, Reply, Request
from schemas.chat import ResponseFormat


class DetectRequest(Request):
    """Either `text` or `token_ids`; with the constraint it was made under, only positions of free choice are scored."""

    text: Annotated[str, Field(max_length=1_000_000)] | None = None
    token_ids: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=262_144)] | None = None
    response_format: ResponseFormat | None = None
    key_id: str | None = Field(
        default=None, description="Absent: every key of the ring, with the p-value corrected for it."
    )
    model: str | None = None
    formwork: FormworkRequest | None = Field(
        default=None, description="whitespace, property_order, … as in the request."
    )

    @model_validator(mode="after")
    def _one_source(self) -> DetectRequest:
        if (self.text is None) == (self.token_ids is None):
            raise ValueError("send exactly one of text and token_ids")
        return self


class DetectReply(Reply):
    watermarked: bool = Field(description="p_value is at most `threshold`.")
    p_value: float
    threshold: float
    scheme: str
    key_id: str
    eligible: int = Field(description="Positions where the scheme could have chosen.")
    scored: int = Field(description="Those left after repeated contexts were dropped.")
    statistic: float
    tokens: int
    canonical: bool = Field(description="False for text: its tokens were guessed by tokenising it again.")
