"""The OpenAPI document: bodies and replies by name, with examples.

What it is for: routes read their bodies themselves (strict JSON, limits), so they say here what those are. What may not
enter: parsing.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/"


class Documented:
    """Collects the models that routes speak of."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[type[BaseModel], str]] = {}

    def route(
        self,
        reply: type[BaseModel] | None = None,
        *,
        body: type[BaseModel] | None = None,
        error: type[BaseModel] | None = None,
        event: type[BaseModel] | None = None,
        example: Any = None,
        many: bool = False,
    ) -> dict[str, Any]:
        """Keyword arguments for a route's decorator."""
        extra: dict[str, Any] = {}
        if body is not None:
            content: dict[str, Any] = {"schema": self._ref(body, "validation")}
            if example is not None:
                content["example"] = example
            extra["requestBody"] = {"required": True, "content": {"application/json": content}}
        responses: dict[int | str, dict[str, Any]] = {}
        if reply is not None:
            schema = self._ref(reply, "serialization")
            found: dict[str, Any] = {
                "application/json": {"schema": {"type": "array", "items": schema} if many else schema}
            }
            if event is not None:
                found["text/event-stream"] = {"schema": self._ref(event, "serialization")}
            responses[200] = {"description": "Success", "content": found}
        if error is not None:
            told = {"application/json": {"schema": self._ref(error, "serialization")}}
            responses["4XX"] = {"description": "What is wrong with the request.", "content": told}
            responses["5XX"] = {"description": "What went wrong here.", "content": told}
        return {"openapi_extra": extra, "responses": responses, "response_model": None}

    def install(self, app: FastAPI) -> None:
        """Makes the app's document hold the models."""

        def document() -> dict[str, Any]:
            if app.openapi_schema is None:
                built = get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                )
                _, definitions = models_json_schema(list(self._models.values()), ref_template=_REF + "{model}")  # type: ignore[arg-type]
                built.setdefault("components", {}).setdefault("schemas", {}).update(definitions.get("$defs", {}))
                app.openapi_schema = built
            return app.openapi_schema

        app.openapi = document  # type: ignore[method-assign]

    def _ref(self, model: type[BaseModel], mode: str) -> dict[str, str]:
        self._models[model.__name__] = (model, mode)
        return {"$ref": _REF + model.__name__}


DOCUMENTED = Documented()
