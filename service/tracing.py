"""Traces of requests for an OpenTelemetry collector, where one is named and the `tracing` extra is installed.

What it is for: a span a request, a child of the caller's (W3C `traceparent`), and spans for what became of each choice:
queue, prefill, decode. Names are OpenTelemetry's semantic conventions for HTTP and generative models. What may not
enter: prompts, outputs, constraints, keys.

The idea: the engine tells its times with the end of a request, so its spans are written afterwards and nothing is sent
to it; a server without a collector runs `NoTracing`, which does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from service.settings import Settings, SettingsError

otel: Any = None
sdk: Any = None
http_exporter: Any = None
with suppress(ImportError):
    from opentelemetry import propagate, trace
    from opentelemetry.sdk import resources
    from opentelemetry.sdk import trace as sdk_trace
    from opentelemetry.sdk.trace import export

    otel, sdk = trace, sdk_trace
with suppress(ImportError):
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    http_exporter = trace_exporter

_NS = 1_000_000_000


class Tracing(Protocol):
    """What the service tells of a request."""

    def request(self, method: str, path: str, headers: Mapping[str, str], request_id: str) -> Any:
        """A context manager around a request; calling what it gives with the status notes that."""
        ...

    def generated(self, facts: Mapping[str, Any], finishes: list[tuple[float, float, float]]) -> None:
        """Inside a request: what was generated; of each choice the seconds of queue, prefill, decode."""
        ...

    def close(self) -> None:
        """Sends what is left."""
        ...


class NoTracing:
    """Nobody wants to know."""

    @contextmanager
    def request(self, *_: Any) -> Iterator[Callable[[int], None]]:
        yield lambda _status: None

    def generated(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


class OpenTelemetry:
    """Spans to an exporter."""

    def __init__(self, exporter: Any, model: str, name: str = "formwork") -> None:
        resource = resources.Resource.create({"service.name": name, "formwork.model": model})
        self._provider = sdk.TracerProvider(resource=resource)
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter, export_timeout_millis=2000))
        self._tracer = self._provider.get_tracer("formwork")

    @contextmanager
    def request(
        self, method: str, path: str, headers: Mapping[str, str], request_id: str
    ) -> Iterator[Callable[[int], None]]:
        caller = propagate.extract({name: headers[name] for name in ("traceparent", "tracestate") if name in headers})
        facts = {"http.request.method": method, "url.path": path, "formwork.request_id": request_id}
        with self._tracer.start_as_current_span(
            f"{method} {path}", context=caller, kind=otel.SpanKind.SERVER, attributes=facts
        ) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(otel.StatusCode.ERROR)

            yield answered

    def generated(self, facts: Mapping[str, Any], finishes: list[tuple[float, float, float]]) -> None:
        otel.get_current_span().set_attributes(facts)
        now = time.time_ns()
        for index, seconds in enumerate(finishes):
            began = now - int(sum(seconds) * _NS)
            for name, length in zip(("queue", "prefill", "decode"), seconds, strict=True):
                ended = began + int(length * _NS)
                attributes = {"formwork.choice": index}
                self._tracer.start_span(name, start_time=began, attributes=attributes).end(ended)
                began = ended

    def close(self) -> None:
        self._provider.shutdown()


def make_tracing(settings: Settings) -> Tracing:
    """As the settings say; raises SettingsError where the extra is missing."""
    if not settings.otlp_endpoint:
        return NoTracing()
    if sdk is None or http_exporter is None:
        raise SettingsError("setting otlp_endpoint: traces need the extra: pip install 'formwork[tracing]'")
    exporter = http_exporter.OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=2)
    return OpenTelemetry(exporter, settings.model_names[0], settings.otlp_service_name)
