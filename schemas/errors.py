"""Error bodies of both families of routes.

What it is for: their documentation and tests; `service/errors.py` renders them and knows which error has which status.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from schemas.base import Reply


class OpenAIErrorDetail(Reply):
    message: str
    type: str
    param: str | None = Field(description="The request field, as in response_format.json_schema.schema.")
    code: str | None
    formwork: dict[str, Any] | None = Field(
        default=None, description="Machine-readable facts: pointer, keyword, least_budget, …"
    )


class OpenAIError(Reply):
    """An error on /v1 routes."""

    error: OpenAIErrorDetail


class TgiError(Reply):
    """An error on TGI's routes."""

    error: str
    error_type: str
    formwork: dict[str, Any] | None = None
