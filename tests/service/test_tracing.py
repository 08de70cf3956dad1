"""Traces: a span a request, under the caller's, with what became of it and nothing of what was said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine import NumericError
from service import tracing
from service.settings import Settings, SettingsError
from service.tracing import NoTracing, OpenTelemetry, make_tracing
from tests.service.houses import saying, served

memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.anyio
async def test_a_request_is_a_span_under_its_callers_with_its_times(tmp_path: Path) -> None:
    exporter = memory.InMemorySpanExporter()
    async with served(tmp_path, saying("a secret")) as (client, _):
        app: Any = client._transport.app  # type: ignore[attr-defined]
        app.state.house = dataclasses.replace(app.state.house, tracing=OpenTelemetry(exporter, "tiny"))
        body = {"prompt": "another secret", "n": 2, "max_tokens": 20}
        for stream in (False, True):
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            response = await client.post("/v1/completions", json={**body, "stream": stream}, headers=headers)
            assert response.status_code == 200
        app.state.house.tracing.close()
    spans = exporter.get_finished_spans()
    requests = [span for span in spans if span.name == "POST /v1/completions"]
    assert len(requests) == 2
    for span in requests:
        assert format(span.context.trace_id, "032x") == TRACE
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["gen_ai.usage.output_tokens"] > 0
        assert len(span.attributes["formwork.request_id"]) == 24
        children = [each for each in spans if each.parent and each.parent.span_id == span.context.span_id]
        assert sorted(each.name for each in children) == ["decode", "decode", "prefill", "prefill", "queue", "queue"]
    assert "secret" not in "".join(span.to_json() for span in spans)


@pytest.mark.anyio
async def test_a_failure_is_an_error_of_its_span(tmp_path: Path) -> None:
    exporter = memory.InMemorySpanExporter()
    async with served(tmp_path, [NumericError("not finite")]) as (client, _):
        app: Any = client._transport.app  # type: ignore[attr-defined]
        app.state.house = dataclasses.replace(app.state.house, tracing=OpenTelemetry(exporter, "tiny"))
        await client.post("/v1/completions", json={"prompt": "x"})
        app.state.house.tracing.close()
    (span,) = exporter.get_finished_spans()
    assert span.attributes["http.response.status_code"] == 500
    assert not span.status.is_ok


def test_without_a_collector_nothing_is_traced_and_without_the_extra_the_start_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(make_tracing(Settings()), NoTracing)
    monkeypatch.setattr(tracing, "http_exporter", None)
    with pytest.raises(SettingsError, match="tracing"):
        make_tracing(Settings(otlp_endpoint="http://127.0.0.1:4318/v1/traces"))
