"""The list of models.

What it is for: `GET /v1/models` and `/v1/models/{id}`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.base import Reply


class Model(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    parent: str | None = Field(default=None, description="Of an adapter: the model that it changes.")


class ModelList(Reply):
    object: Literal["list"]
    data: list[Model]
