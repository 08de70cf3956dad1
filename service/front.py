"""The refusals of a full house, made of a request's head alone.

What it is for: `front_of(app, settings)` is what `service.connections` asks first. What may not enter: bodies, routes'
work, any other answer than the one that the route would give.

The idea: at ten times the load nine of ten requests are refused, so a refusal has to be cheap. Where text is generated
a full house says the same whatever the body is. Who may not come in at all, and whatever else the head has of its own
(an escaped path, a trace to go on with, an origin), goes the long way and is told there.
"""

from __future__ import annotations

import msgspec
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.connections import Answer, Front, Headers
from service.desk import authorization_of, report
from service.errors import Overloaded, ServiceError
from service.house import House
from service.logs import of_request
from service.routes import chat, completions, messages, ollama, peers, responses, tgi, vertex
from service.settings import Settings
from service.stamp import family_of, new_id, note_access
from service.tracing import NoTracing

_GENERATING = (chat, completions, responses, messages, ollama, peers, tgi, vertex)
_REASONS = {429: b"429 Too Many Requests", 503: b"503 Service Unavailable"}
_NAMES = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key"})


def crowded_paths() -> frozenset[str]:
    """Where a full house says no whatever the body is."""
    return frozenset(
        route.path
        for each in _GENERATING
        for route in each.router.routes
        if isinstance(route, APIRoute) and "POST" in (route.methods or ()) and "{" not in route.path
    )


def front_of(app: FastAPI, settings: Settings) -> Front | None:
    """What answers in front of the application; None where answers need what only the application adds."""
    if settings.origins:
        return None
    paths, prefix = crowded_paths(), settings.root_path

    def front(method: bytes, target: bytes, headers: Headers) -> Answer | None:
        house: House | None = getattr(app.state, "house", None)
        if house is None or not house.gate.is_shut or method != b"POST":
            return None
        path = target.partition(b"?")[0].decode("latin-1").removeprefix(prefix)
        if path not in paths or not isinstance(house.tracing, NoTracing):
            return None
        refused = _refused(house, headers)
        if refused is None:
            return None
        request_id = new_id()
        with of_request(request_id):
            answer = _told(house, refused, path, request_id)
            if settings.access_log:
                note_access("POST", path, int(answer.status[:3]), 0.0)
        return answer

    return front


def _refused(house: House, headers: Headers) -> Overloaded | None:
    """Counted; None where the route has something else to say."""
    if len(house.keys):
        given = {name.lower().decode(): value.decode("latin-1") for name, value in headers if name.lower() in _NAMES}
        try:
            house.keys.admit(authorization_of(given))
        except ServiceError:
            return None
    try:
        house.gate.check(house.retry_after_s())
    except Overloaded as refused:
        return refused
    return None


def _told(house: House, refused: Overloaded, path: str, request_id: str) -> Answer:
    told = report(house, refused, family_of(path))
    headers = [(name.encode(), value.encode()) for name, value in told.headers.items()]
    headers += [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        (b"openai-processing-ms", b"0"),
    ]
    return Answer(_REASONS[told.status], headers, msgspec.json.encode(told.body))
