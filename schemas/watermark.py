"""The watermark's detector over HTTP.

What it is for: `POST /v1/watermark/detect`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.base import FormworkRequest, Reply, Request, TokenId
from schemas.chat import ResponseFormat


class DetectRequest(Request):
    """Either `text` or `token_ids`; with the constraint it was made under, only positions of free choice are scored."""

    text: Annotated[str, Field(max_length=1_000_000)] | None = None
    token_ids: Annotated[list[TokenId], Field(max_length=262_144)] | None = None
    response_format: ResponseFormat | None = None
    source: Annotated[list[Annotated[str, Field(max_length=1_000_000)]], Field(max_length=4096)] | None = Field(
        default=None,
        description='What strings under `"x-source": "input"` were quoted from: the user\'s messages in order, or the '
        "prompt.",
    )
    key_id: str | None = Field(
        default=None, description="Absent: every key of the ring, with the p-value corrected for it."
    )
    background: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(max_length=2000)] = Field(
        default=[],
        description="Texts of the same kind that are known to be unmarked (a few hundred): phrases that many of them "
        "share are not counted. Short documents of one schema say the same things, and a key may happen to like them.",
    )
    scan: bool = Field(default=False, description="Look for marked passages inside longer text too.")
    picture: Literal["html", "ansi"] | None = Field(
        default=None, description="Token by token, what the key says of each: for the key's owner only."
    )
    model: str | None = None
    formwork: FormworkRequest | None = Field(
        default=None,
        description="grammar (a name), formats, … as requested. Any whitespace and order is read unless given here.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> DetectRequest:
        if (self.text is None) == (self.token_ids is None):
            raise ValueError("send exactly one of text and token_ids")
        return self


class Evidence(Reply):
    """What one key says, by itself."""

    scheme: str
    key_id: str
    scored: int
    p_value: float


class MarkedPassage(Reply):
    """A stretch of the text."""

    first_token: int
    last_token: int = Field(description="Included.")
    text: str
    scored: int
    scheme: str
    key_id: str
    p_value: float = Field(description="Corrected for every window, key, scheme and reading looked at.")


class DetectReply(Reply):
    watermarked: bool = Field(description="p_value is at most `threshold`.")
    p_value: float = Field(description="Corrected for all keys, schemes and readings tried.")
    log10_p_value: float = Field(description="The same where p_value has underflown to 0.")
    threshold: float
    reading: Literal["constraint", "json", "text"] = Field(
        description="How the text was read: by its constraint, as JSON whose strings count, or as prose."
    )
    scheme: str
    key_id: str
    eligible: int = Field(description="Positions where the scheme could have chosen.")
    scored: int = Field(description="Those left after short and repeated contexts and commonplaces were dropped.")
    statistic: float
    z: float = Field(description="For comparing; no p-value can be read from it.")
    evidence: list[Evidence] = Field(description="Each key and scheme that was tried.")
    passages: list[MarkedPassage] | None = Field(default=None, description="If `scan`.")
    picture: str | None = Field(default=None, description="If asked for.")
    tokens: int
    canonical: bool = Field(description="False for text: its tokens were guessed by tokenising it again.")
