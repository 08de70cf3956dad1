"""The reception of generating routes: key, body, place in the house; then the work; then the metrics.

What it is for: one way in for all of them, so that no route can forget a step. What may not enter: dialects.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from engine import EngineOverloaded, EngineUnavailable
from grammar import GrammarError
from service.access import Scope
from service.accounts import cost_headers, count
from service.body import parse, strict_json
from service.errors import Family, InvalidBody, Problem, ServiceError, problem, row_of, tgi_word
from service.generation import Generation, Prepared
from service.house import House
from service.streaming import EventStream, attended, event, line

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")
_LARGE_BODY = 32 << 10  # bytes; about a millisecond's work
FIRST_EVENT_S = 0.5  # an error that comes so soon is still told by status
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Visit:
    """One request inside; `leave` works once."""

    house: House
    request: Request
    tenant: str
    data: bytes  # the body
    arrived: float
    _inside: bool = True

    async def body(self, model: type[Body]) -> Body:
        """The body as the route's model; raises InvalidBody."""
        return await off_loop(len(self.data), lambda: parse(strict_json(self.data), model))

    async def json(self) -> Any:
        """The body as JSON, for routes whose bodies are of several kinds."""
        return await off_loop(len(self.data), lambda: strict_json(self.data))

    def leave(self) -> None:
        if self._inside:
            self._inside = False
            self.house.gate.leave()
            self.house.allowances.leave(self.tenant)
            self.house.metrics.duration.observe(time.monotonic() - self.arrived)

    async def stream(self, events: AsyncGenerator[bytes, None], family: Family) -> EventStream:
        """A response that leaves the house when it has been sent; an error that comes at once is raised."""

        def failed(error: Exception) -> bytes:
            return failure(report(self.house, error, family).body, family)

        media_type = "application/x-ndjson" if family is Family.OLLAMA else "text/event-stream"
        stream = EventStream(events, failed, self.leave, media_type, self.house.settings.send_timeout_s)
        await attended(self.request, stream.prime(FIRST_EVENT_S))
        return stream


async def off_loop(size: int, read: Callable[[], Result]) -> Result:
    """What many bytes say is read in a thread: every stream waits while the event loop does."""
    return read() if size < _LARGE_BODY else await asyncio.to_thread(read)


def failure(body: dict[str, Any], family: Family) -> bytes:
    """The last event of a stream that failed."""
    if family is Family.OLLAMA:
        return line(body)
    if family is Family.ANTHROPIC:
        return b"event: error\n" + event(body)
    return event(body, gap=b"" if family is Family.TGI else b" ")


def report(house: House, error: Exception, family: Family) -> Problem:
    """The error as the dialect tells it; counted, and logged where it is ours."""
    if row_of(error).status == 503 and getattr(error, "retry_after_s", None) is None:
        error.__dict__["retry_after_s"] = house.retry_after_s()
    house.metrics.failures.add(err=tgi_word(error))
    code = row_of(error).code or "unknown"
    house.metrics.errors.add(code=code)
    if isinstance(error, GrammarError):
        house.metrics.refuse_constraint(code, error.keyword)
    told = problem(error, family)
    if told.status >= 500 and not isinstance(error, ServiceError | EngineUnavailable | EngineOverloaded):
        _LOG.error("a request failed: %s", error, exc_info=error)
    return told


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


def tenant_of(request: Request, scope: Scope = Scope.GENERATE) -> str:
    """Who asks; raises Unauthorized, or Forbidden where the key is for other things."""
    return house_of(request).keys.admit(authorization_of(request.headers), scope)


def authorization_of(headers: Mapping[str, str]) -> str | None:
    """The header of that name, or what Anthropic's and Gemini's clients send instead."""
    own = headers.get("x-api-key") or headers.get("x-goog-api-key")
    return headers.get("authorization") or (f"Bearer {own}" if own else None)


async def receive(
    request: Request, work: Callable[[Visit], Awaitable[Response]], scope: Scope = Scope.GENERATE
) -> Response:
    """Does the work of one request; a stream it returns leaves the house by itself."""
    house = house_of(request)
    tenant = tenant_of(request, scope)
    arrived = time.monotonic()
    house.allowances.enter(tenant)
    try:
        house.gate.check(house.retry_after_s())
        house.metrics.requests.add()
        data = await house.reception.receive(request)
        house.gate.enter(house.retry_after_s())
    except BaseException:
        house.allowances.leave(tenant)
        raise
    visit = Visit(house, request, tenant, data, arrived)
    response: Response | None = None
    try:
        response = await work(visit)
        return response
    except RecursionError:  # whatever walked the body: it is the body's fault
        raise InvalidBody("the body is nested too deeply") from None
    finally:
        if not isinstance(response, EventStream):
            visit.leave()


@asynccontextmanager
async def entered(request: Request, scope: Scope = Scope.GENERATE) -> AsyncGenerator[tuple[House, str], None]:
    """A request without a body that costs work all the same: its key's limits and the house's hold for it too."""
    house, tenant = house_of(request), tenant_of(request, scope)
    house.allowances.enter(tenant)
    try:
        house.gate.enter(house.retry_after_s())
        try:
            yield house, tenant
        finally:
            house.gate.leave()
    finally:
        house.allowances.leave(tenant)


async def whole(visit: Visit, prepared: Prepared, work: Callable[[Generation], Awaitable[Response]]) -> Response:
    """An answer in one piece: cancelled if the client goes away, counted when done."""

    async def run() -> Response:
        generation = Generation(visit.house, prepared)
        response = await work(generation)
        count(visit.house, generation)
        response.headers.update(cost_headers(visit.house, generation, visit.arrived))
        return response

    return await attended(visit.request, run())


@asynccontextmanager
async def counted(visit: Visit, prepared: Prepared) -> AsyncGenerator[Generation, None]:
    """A running generation, counted if it ends well."""
    async with Generation(visit.house, prepared) as generation:
        yield generation
        count(visit.house, generation)
