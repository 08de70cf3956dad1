"""`/v1/grammars`: compile a constraint ahead of its use, read what it means, give it a name.

What it is for: a compiled constraint is warm in the cache; a named one can be asked for by `formwork.grammar`. What may
not enter: compiling itself. Names belong to the key that made them (service.names).
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.base import FormworkRequest
from schemas.errors import OpenAIError
from schemas.grammars import GrammarList, GrammarReply, GrammarRequest
from service import constraints
from service.compiling import CompiledConstraint
from service.desk import Visit, entered, house_of, receive, tenant_of
from service.errors import InvalidBody, NotFound
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended

router = APIRouter(tags=["Formwork"])

EXAMPLE: dict[str, Any] = {
    "name": "age",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "age", "schema": {"type": "object", "properties": {"age": {"type": "integer"}}}},
    },
}


@router.post("/v1/grammars", **DOCUMENTED.route(GrammarReply, body=GrammarRequest, error=OpenAIError, example=EXAMPLE))
async def make(request: Request) -> Response:
    """Compiles a constraint: what is enforced and how, the least budget, the cost."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(GrammarRequest)
        house = visit.house
        constraint = constraints.of_response_format(body.response_format, body.formwork or FormworkRequest())
        if constraint is None:
            raise InvalidBody("text is no constraint", param="response_format")
        compiled = await attended(request, house.compiler.compile(constraint, visit.tenant))
        if body.name is not None:
            await asyncio.to_thread(house.names.keep, visit.tenant, body.name, constraint)
        return JsonReply(_reply(body.name, compiled))

    return await receive(request, work)


@router.get("/v1/grammars", **DOCUMENTED.route(GrammarList, error=OpenAIError))
async def listed(request: Request) -> Response:
    """The named constraints."""
    async with entered(request) as (house, tenant):
        named = list(house.names.of(tenant).items())  # others may be named meanwhile

        async def replies() -> list[dict[str, Any]]:
            return [_reply(name, await house.compiler.compile(constraint, tenant)) for name, constraint in named]

        return JsonReply({"object": "list", "data": await attended(request, replies())})


@router.get("/v1/grammars/{name}", **DOCUMENTED.route(GrammarReply, error=OpenAIError))
async def one(request: Request, name: str) -> Response:
    """One of them."""
    async with entered(request) as (house, tenant):
        constraint = house.names.of(tenant).get(name)
        if constraint is None:
            raise NotFound(f"no constraint is named {name[:128]!r}")
        return JsonReply(_reply(name, await attended(request, house.compiler.compile(constraint, tenant))))


@router.delete("/v1/grammars/{name}", **DOCUMENTED.route(error=OpenAIError))
async def forget(request: Request, name: str) -> Response:
    """Takes a name away."""
    tenant = tenant_of(request)
    if not await asyncio.to_thread(house_of(request).names.drop, tenant, name):
        raise NotFound(f"no constraint is named {name[:128]!r}")
    return JsonReply({"name": name, "object": "grammar", "deleted": True})


def _reply(name: str | None, compiled: CompiledConstraint) -> dict[str, Any]:
    return {
        "object": "grammar",
        "name": name,
        "fingerprint": compiled.plan.fingerprint,
        "kind": compiled.constraint.kind,
        "least_budget": compiled.least_budget,
        "nbytes": compiled.nbytes,
        "compile_s": compiled.compile_s,
        "cached": compiled.cached,
        "explanation": compiled.explanation,
    }
