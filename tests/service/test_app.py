"""The application as a whole: imports, documentation, doors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from engine import EngineState, NumericError
from engine.histogram import Histogram
from engine.step_times import BOUNDS
from grammar import UnsupportedConstraint
from service.desk import report
from service.errors import Family, InvalidBody, Overloaded, TemplateFailure, Unauthorized, tgi_word
from service.serving import curl_line
from tests.service.houses import saying, served

pytestmark = pytest.mark.anyio

OPEN = {
    "/livez",
    "/readyz",
    "/startupz",
    "/health",
    "/ping",
    "/",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/v2/health/live",
    "/v2/health/ready",
}


def test_the_api_process_imports_no_torch() -> None:
    code = "import service.app, service.serving, sys; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


async def test_every_route_but_health_asks_for_the_key(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi"), api_keys="secret") as (client, _):
        document = (await client.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method in methods:
                if (path in OPEN and method == "get") or "oauth2" in path:
                    continue
                where = re.sub(r"\{.*\}", "x", path)
                response = await client.request(method, where, json={} if method == "post" else None)
                assert response.status_code == 401, (method, path)


def discriminators(value: Any) -> Iterator[dict[str, Any]]:
    """Wherever a document says which of several models a value is."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and isinstance(value.get("discriminator"), dict):
        yield value["discriminator"]
    for part in parts:
        yield from discriminators(part)


async def test_the_openapi_document_holds_together(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        document = (await client.get("/openapi.json")).json()
        docs = await client.get("/docs")
    assert docs.status_code == 200
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    told = [each["mapping"] for each in discriminators(document)]
    assert told
    assert all(isinstance(place, str) for mapping in told for place in mapping.values())
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    resolved = {"$ref": body["schema"]["$ref"], "components": document["components"]}
    Draft202012Validator(resolved).validate(body["example"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])  # load balancers ask either way
async def test_health_routes_tell_the_truth(method: str, tmp_path: Path) -> None:
    paths = ("/livez", "/startupz", "/readyz", "/health", "/")
    async with served(tmp_path, []) as (client, engine):
        ready = [(await client.request(method, path)).status_code for path in paths]
        engine.state = EngineState.BROKEN
        broken = [(await client.request(method, path)).status_code for path in paths]
    assert ready == [200] * 5
    assert broken == [200, 200, 503, 503, 503]


async def test_what_is_not_there_is_told_in_the_familys_shape(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        missing = await client.get("/v1/nothing")
        method = await client.get("/v1/chat/completions")
        tgi = await client.get("/generate")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["error"]["code"]) == (405, "method_not_allowed")
    assert (tgi.status_code, tgi.json()["error_type"]) == (405, "method_not_allowed")


async def test_models_are_listed_under_their_names(tmp_path: Path) -> None:
    async with served(tmp_path, []) as (client, _):
        listed = (await client.get("/v1/models")).json()
        one = await client.get("/v1/models/small")
        none = await client.get("/v1/models/large")
    assert [each["id"] for each in listed["data"]] == ["tiny", "small"]
    assert one.json()["id"] == "small"
    assert none.status_code == 404


async def test_metrics_count_requests(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        await client.post("/generate", json={"inputs": "x"})
        await client.post("/generate", json={"inputs": ""})
        text = (await client.get("/metrics")).text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert numbers["tgi_request_count"] == "2"
    assert numbers["tgi_request_success"] == "1"
    assert numbers['tgi_request_failure{err="validation"}'] == "1"
    assert numbers['formwork_request_errors_total{code="invalid_value"}'] == "1"
    assert numbers["tgi_request_validation_duration_count"] == "1"
    assert numbers["tgi_request_skipped_tokens_count"] == "1"
    assert numbers['tgi_batch_forward_duration_count{method="decode"}'] == "0"
    assert {name for name in TGI_NAMES if f"\n{name}" not in text} == set()
    types = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert numbers["tgi_request_generated_tokens_count"] == "1"


async def test_the_engines_histograms_are_told_with_cumulative_buckets(tmp_path: Path) -> None:
    """As Prometheus reads them; the label's other value has none yet, and says so."""
    took = Histogram(BOUNDS["host"])
    took.observe(0.0004, times=3)
    took.observe(0.0009)
    took.observe(9.0)
    async with served(tmp_path, []) as (client, engine):
        engine.stats = msgspec.structs.replace(engine.stats, batches={"host/decode": took.spread})
        text = (await client.get("/metrics")).text
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("formwork_step_host_seconds"))
    buckets = [int(told[f'formwork_step_host_seconds_bucket{{method="decode",le="{b:g}"}}']) for b in BOUNDS["host"]]
    assert buckets == [0, 0, 3, *[4] * (len(buckets) - 3)]
    assert told['formwork_step_host_seconds_bucket{method="decode",le="+Inf"}'] == "5"
    assert told['formwork_step_host_seconds_count{method="decode"}'] == "5"
    assert float(told['formwork_step_host_seconds_sum{method="decode"}']) == pytest.approx(9.0021)
    assert told['formwork_step_host_seconds_count{method="prefill"}'] == "0"


async def test_metrics_tell_refusals_by_keyword_and_what_the_model_thought_of_the_grammar(tmp_path: Path) -> None:
    """A keyword of the client's own making is no label: labels must be few."""
    async with served(tmp_path, saying("Hi")) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        for regex in ("refused", "also refused", "[a-z]"):
            await client.post("/generate", json=regex_body(regex))
        for keyword in (None, "evil\n", "multipleOf"):
            report(house, UnsupportedConstraint("no", keyword=keyword), Family.OPENAI)
        text = (await client.get("/metrics")).text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    name = 'formwork_constraints_refused_total{code="unsupported_constraint",keyword="%s"}'
    assert [numbers[name % keyword] for keyword in ("type", "", "other", "multipleOf")] == ["2", "1", "1", "1"]
    assert "evil" not in text
    assert numbers["formwork_legal_mass_count"] == "3"  # H, i and the end
    assert numbers['formwork_legal_mass_bucket{le="0.75"}'] == "2"


def regex_body(regex: str) -> dict[str, Any]:
    return {"inputs": "x", "parameters": {"grammar": {"type": "regex", "value": regex}}}


TGI_NAMES = [
    *(f"tgi_request_{name}" for name in ("success", "failure", "duration", "validation_duration")),
    *(f"tgi_request_{name}" for name in ("queue_duration", "inference_duration", "mean_time_per_token_duration")),
    *(f"tgi_request_{name}" for name in ("generated_tokens", "input_length", "max_new_tokens", "skipped_tokens")),
    *(f"tgi_batch_{name}" for name in ("current_size", "current_max_tokens", "total_tokens", "max_total_tokens")),
    *(f"tgi_batch_{name}" for name in ("next_size", "concat", "concat_duration", "filter_duration")),
    *(f"tgi_batch_inference_{name}" for name in ("count", "success", "failure", "duration")),
    *("tgi_batch_forward_duration", "tgi_batch_decode_duration", "tgi_queue_size", "tgi_request_count"),
]


def test_the_printed_line_is_the_readmes() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert curl_line("127.0.0.1", 8000) in readme.read_text("utf-8")


def example_of(line: str) -> Any:
    return json.loads(line.split("-d '")[1].rstrip("'"))


def test_the_printed_line_is_valid_json() -> None:
    assert example_of(curl_line("0.0.0.0", 1))["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (InvalidBody("x"), "validation"),
        (TemplateFailure("x"), "template"),
        (Overloaded("x"), "overloaded"),
        (NumericError("x"), "generation"),
        (ValueError("x"), "incomplete"),
        (Unauthorized("x"), "validation"),
    ],
)
def test_failures_are_counted_in_tgis_words(error: Exception, word: str) -> None:
    assert tgi_word(error) == word
