"""Whether the service lives, has started, and takes work; and its metrics.

What it is for: `/livez`, `/startupz`, `/readyz`; `/health`, `/ping` and `GET /` of TGI; `/metrics`. All but the last
are open to everyone: load balancers have no keys. While the engine is being restarted `/readyz` says so: a load
balancer has better places then, and requests that come all the same wait and are served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from engine import EngineState
from service.access import Scope
from service.desk import house_of, tenant_of
from service.house import House
from service.metrics import gauges, spreads
from service.streaming import JsonReply

router = APIRouter(tags=["Health"])
scraped = APIRouter(tags=["Health"])  # not among the routes where metrics have a port of their own


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez(_request: Request) -> Response:
    """The event loop turns."""
    return JsonReply({"status": "alive"})


@router.head("/startupz", include_in_schema=False)
@router.get("/startupz")
async def startupz(request: Request) -> Response:
    """The model was loaded once."""
    started = house_of(request).engine.state is not EngineState.STARTING
    return JsonReply({"status": "started" if started else "starting"}, status_code=200 if started else 503)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """New requests are taken."""
    reason = unready(house_of(request))
    return JsonReply({"status": "ready"} if reason is None else {"status": reason}, 503 if reason else 200)


@router.head("/health", include_in_schema=False)
@router.head("/ping", include_in_schema=False)
@router.head("/", include_in_schema=False)
@router.get("/health", response_class=Response, responses={503: {"description": "Not ready."}})
@router.get("/ping", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def health(request: Request) -> Response:
    """TGI's health: an empty 200, or its error."""
    if unready(house_of(request)) is None:
        return Response(status_code=200)
    return JsonReply({"error": "unhealthy", "error_type": "healthcheck"}, status_code=503)


@scraped.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    tenant_of(request, Scope.ADMIN)
    return _metrics(house_of(request))


def metrics_app(house: House) -> Starlette:
    """Metrics and health for a port of their own; who reaches it needs no key."""

    async def told(_request: Request) -> Response:
        return _metrics(house)

    checks: dict[str, Callable[..., Any]] = {
        "/livez": livez,
        "/startupz": startupz,
        "/readyz": readyz,
        "/health": health,
    }
    app = Starlette(routes=[Route("/metrics", told), *(Route(path, check) for path, check in checks.items())])
    app.state.house = house
    return app


def _metrics(house: House) -> Response:
    lines = [
        *house.metrics.lines(),
        *spreads(house.engine.stats.batches),
        *gauges(_gauges(house)),
        *gauges(_counters(house), "counter"),
    ]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def unready(house: House) -> str | None:
    """Why no new request is taken, or None."""
    if house.gate.draining:
        return "draining"
    if house.engine.state is not EngineState.READY:
        return f"engine is {house.engine.state}"
    return None if house.compiler.ready else "constraint compiler is starting"


def _gauges(house: House) -> dict[str, float]:
    stats = house.engine.stats
    return {
        "tgi_queue_size": stats.waiting,
        "tgi_batch_current_size": stats.running,
        "tgi_batch_max_total_tokens": stats.pages_total * house.engine.info.page_size,
        "tgi_batch_total_tokens": stats.pages_used * house.engine.info.page_size,
        "tgi_batch_current_max_tokens": stats.pages_used * house.engine.info.page_size,
        "formwork_requests_inside": house.gate.inside,
        "formwork_arriving_body_bytes": house.reception.held,
        "formwork_engines": stats.engines,
        "formwork_pages_used": stats.pages_used,
        "formwork_pages_total": stats.pages_total,
        "formwork_grammars_loaded": stats.grammars,
        "formwork_grammar_bytes": stats.grammar_bytes,
        "formwork_stored_response_bytes": house.archive.nbytes,
        "formwork_plan_cache_bytes": house.compiler.cached_bytes,
        f'formwork_weight_bytes{{quantize="{house.engine.info.quantize or "none"}"}}': house.engine.info.weight_bytes,
        "formwork_memory_bandwidth_bytes": house.engine.info.memory_bandwidth,
        "formwork_memory_bandwidth_share": _bandwidth_share(house),
        "formwork_ready": float(unready(house) is None),
    }


def _bandwidth_share(house: House) -> float:
    """Of what the device reads a second, how much decoding has read since start; 0 before it decoded."""
    stats, device = house.engine.stats, house.engine.info.memory_bandwidth
    return stats.decode_bytes / stats.decode_s / device if stats.decode_s and device else 0.0


def _counters(house: House) -> dict[str, float]:
    stats, compiled, continuity = house.engine.stats, house.compiler.counters, house.engine.continuity
    counted = {name: sum(spread.counts) for name, spread in stats.batches.items()}
    return {
        **{
            f'tgi_batch_inference_{word}{{method="{method}"}}': counted.get(f"inference/{method}", 0)
            for word in ("count", "success")
            for method in ("prefill", "decode")
        },
        'tgi_batch_inference_failure{method="decode"}': continuity.restarts,
        "tgi_batch_concat": counted.get("concat", 0),
        "formwork_refused_total": house.gate.refused + house.reception.refused,
        "formwork_key_limited_total": house.allowances.refused,
        "formwork_generated_tokens_total": stats.generated_tokens,
        "formwork_prefill_tokens_total": stats.prefill_tokens,
        "formwork_steps_total": stats.steps,
        "formwork_preemptions_total": stats.preemptions,
        "formwork_mask_seconds_total": stats.mask_s,
        "formwork_forward_seconds_total": stats.forward_s,
        "formwork_sample_seconds_total": stats.sample_s,
        "formwork_schedule_seconds_total": stats.schedule_s,
        "formwork_conclude_seconds_total": stats.conclude_s,
        "formwork_publish_seconds_total": stats.publish_s,
        "formwork_mask_wait_seconds_total": stats.mask_wait_s,
        "formwork_decode_bytes_total": stats.decode_bytes,
        "formwork_decode_seconds_total": stats.decode_s,
        "formwork_compile_cache_hits_total": compiled.hits,
        "formwork_compile_cache_misses_total": compiled.misses,
        "formwork_compile_refused_total": compiled.refused,
        "formwork_compile_timeouts_total": compiled.timeouts,
        "formwork_compile_worker_deaths_total": compiled.worker_deaths,
        "formwork_compile_seconds_total": compiled.compile_s,
        "formwork_engine_restarts_total": continuity.restarts,
        "formwork_resumptions_total": continuity.resumptions,
        "formwork_requests_lost_total": continuity.lost,
        "formwork_requests_quarantined_total": continuity.quarantined,
    }
