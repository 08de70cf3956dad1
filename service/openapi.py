"""The OpenAPI document: bodies and replies by name, with examples.

What it is for: routes read their bodies themselves (strict JSON, limits), so they say here what those are. What may not
enter: parsing.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        *replies: type[BaseModel],
        arrays: Sequence[type[BaseModel]] = (),
        body: type[BaseModel] | Sequence[type[BaseModel]] = (),
        error: type[BaseModel] | None = None,
        event: type[BaseModel] | Sequence[type[BaseModel]] = (),
        lines: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        example: Any = None,
    ) -> dict[str, Any]:
        """Keyword arguments for a route's decorator: what it answers with (`arrays`: lists of it) and takes."""
        extra: dict[str, Any] = {}
        if bodies := _several(body):
            content: dict[str, Any] = {"schema": _any_of([self._ref(each, "validation") for each in bodies])}
            if example is not None:
                content["example"] = example
            extra["requestBody"] = {"required": True, "content": {"application/json": content}}
        if query is not None:
            extra["parameters"] = _parameters(query)
        responses: dict[int | str, dict[str, Any]] = {}
        schemas: list[dict[str, Any]] = [self._ref(each, "serialization") for each in replies]
        schemas += [{"type": "array", "items": self._ref(each, "serialization")} for each in arrays]
        if schemas:
            found: dict[str, Any] = {"application/json": {"schema": _any_of(schemas)}}
            if events := _several(event):
                told = _any_of([self._ref(each, "serialization") for each in events])
                found["text/event-stream"] = {"schema": _event(told)}
            if lines is not None:
                found["application/x-ndjson"] = {"schema": self._ref(lines, "serialization")}
            responses[200] = {"description": "Success", "content": found}
        if error is not None:
            problem = {"application/json": {"schema": self._ref(error, "serialization")}}
            responses["4XX"] = {"description": "What is wrong with the request.", "content": problem}
            responses["5XX"] = {"description": "What went wrong here.", "content": problem}
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

    def _ref(self, model: type[BaseModel], mode: str) -> dict[str, Any]:
        self._models[model.__name__] = (model, mode)
        return {"$ref": _REF + model.__name__}


def _several(models: type[BaseModel] | Sequence[type[BaseModel]]) -> Sequence[type[BaseModel]]:
    return models if isinstance(models, Sequence) else (models,)


def _parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a query."""
    described = query.model_json_schema()
    needed = described.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in needed, "schema": schema}
        for name, schema in described["properties"].items()
    ]


def _event(data: dict[str, Any]) -> dict[str, Any]:
    """A server-sent event, as OpenAPI 3.2 describes one: its data is JSON in a string, or `[DONE]`."""
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {"type": "object", "properties": {"event": {"type": "string"}, "data": content}, "required": ["data"]}


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


DOCUMENTED = Documented()
