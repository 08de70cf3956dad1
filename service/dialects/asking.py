"""What the dialects that are translations share: a request in the words of chat or of completions.

What it is for: `translated`. What may not enter: a dialect's own words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from schemas.base import FormworkRequest
from service.body import parse
from service.errors import InvalidBody

Model = TypeVar("Model", bound=BaseModel)


def translated(
    asked: Mapping[str, Any], formwork: FormworkRequest | None, model: type[Model], *, nulls: Collection[str] = ()
) -> Model:
    """The request as `model`: what is None was not said, but in `nulls`. Raises InvalidBody."""
    if formwork is not None and formwork.events is not None:
        raise InvalidBody("values are told one by one on /v1/chat/completions", param="formwork.events")
    words = {name: value for name, value in asked.items() if value is not None or name in nulls}
    if formwork is not None:
        words["formwork"] = formwork.model_dump(exclude_unset=True)
    return parse(words, model)
