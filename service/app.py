"""The composition root: settings and an engine in, the application out.

What it is for: `create_app` builds the house at start-up and takes it down at the end; routes and errors are joined
here. What may not enter: behaviour of routes, torch.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from engine import Engine, EngineConfig, EngineError
from engine.checkpoint import locate
from engine.tokenizer import Tokenizer
from grammar.errors import GrammarError
from service.access import Allowances, Gate, Keys, entry_of, read_keys
from service.adapters import AdapterError, Shelf, prove, shelf_of
from service.archive import Archive
from service.body import Reception
from service.chat import ChatTemplate
from service.compiling import CompileLimits, Compiler
from service.desk import report
from service.errors import MethodNotAllowed, NotFound, ServiceError
from service.families import call_form, thought_form
from service.house import VERSION, House, context_length
from service.marking import discard_key_file, make_marker, with_commonplaces
from service.metrics import Metrics
from service.names import NameFolder, Names
from service.openapi import DOCUMENTED
from service.pace import Pace
from service.routes import (
    adapters,
    chat,
    completions,
    gemini,
    grammars,
    health,
    kserve,
    messages,
    models,
    ollama,
    peers,
    playground,
    responses,
    scoring,
    tgi,
    vertex,
    watermark,
)
from service.settings import Settings
from service.stamp import Stamp, family_of
from service.streaming import ClientGone, JsonReply
from service.tracing import make_tracing
from watermark import warm as warm_watermark

StartEngine = Callable[[EngineConfig], Awaitable[Engine]]

_ROUTES = (
    chat,
    completions,
    responses,
    messages,
    gemini,
    ollama,
    peers,
    models,
    tgi,
    vertex,
    kserve,
    grammars,
    scoring,
    watermark,
    adapters,
    playground,
    health,
)
_MOST_ADAPTER_NAMES = 1024
_DESCRIPTION = "Structured output that always conforms, over the APIs of OpenAI and TGI."


def create_app(settings: Settings, start_engine: StartEngine) -> FastAPI:
    """The application; `start_engine` is called at start-up with the engine's configuration."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with open_house(settings, start_engine) as house:
            app.state.house = house
            _quieten_collector()
            yield

    app = FastAPI(
        title="Formwork",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for each in _ROUTES:
        app.include_router(each.router)
    if not settings.metrics_port:
        app.include_router(health.scraped)
    DOCUMENTED.install(app)
    for kind in (ServiceError, GrammarError, EngineError, Exception):
        app.add_exception_handler(kind, _tell)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(ClientGone, _tell_nobody)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"]
        )
    app.add_middleware(Stamp, access_log=settings.access_log, root_path=settings.root_path)
    return app


def _quieten_collector() -> None:
    """Takes all that lives as long as the process out of the garbage collector's sight: it need not look there again.

    A full collection over the vocabulary, the routes and the models of bodies is tens of milliseconds in every stream.
    """
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def open_house(
    settings: Settings, start_engine: StartEngine, compiler_of: type[Compiler] = Compiler
) -> AsyncGenerator[House, None]:
    """Everything that routes share, started; closed at the end, running requests first."""
    keys = Keys([*map(entry_of, settings.keys), *(read_keys(settings.api_keys_file) if settings.api_keys_file else ())])
    tracing = make_tracing(settings)
    folder = await asyncio.to_thread(locate, settings.model, settings.revision or None, code=settings.trust_remote_code)
    tokenizer = Tokenizer.load(folder)
    shelf = await asyncio.to_thread(shelf_of, settings.adapters, _MOST_ADAPTER_NAMES, locate)
    marker = make_marker(
        settings.watermark, settings.watermark_threshold, settings.watermark_keys, settings.watermark_key_file
    )
    try:
        marker = with_commonplaces(marker, settings.watermark_commonplaces, folder, tokenizer.fingerprint)
        engine = await start_engine(engine_config(settings, folder, marker.key_file))
        compiler = compiler_of(
            tokenizer.padded_bytes(engine.info.vocab_size),
            _ends(engine, tokenizer),
            compile_limits(settings),
            tokenizer.special_tokens,
        )
        try:
            await asyncio.gather(compiler.start(), asyncio.to_thread(warm_watermark))
            for name in shelf:
                await _proved(engine, name, shelf)
            template = _template(settings, tokenizer, context_length(settings, engine.info))
            spelled = template.source if template else ""
            yield House(
                settings=settings,
                engine=engine,
                tokenizer=tokenizer,
                template=template,
                call_form=call_form(settings.tool_call_parser, spelled),
                thought_form=thought_form(settings.reasoning_parser, spelled),
                compiler=compiler,
                marker=marker,
                keys=keys,
                gate=Gate(settings.max_concurrent_requests),
                reception=Reception(settings.body_limit_bytes, settings.bodies_limit_bytes, settings.body_timeout_s),
                allowances=Allowances(_at_once(settings, keys), settings.key_requests_per_minute, own=keys.limits),
                metrics=Metrics(),
                names=Names(name_folder(settings)),
                pace=Pace(),
                archive=Archive(settings.response_store_bytes),
                adapters=shelf,
                tracing=tracing,
                started_at=int(time.time()),
            )
        finally:
            await engine.close()
            await compiler.close()
    finally:
        discard_key_file(marker, settings.watermark_key_file)
        await asyncio.to_thread(tracing.close)


async def _proved(engine: Engine, name: str, shelf: Shelf) -> None:
    """An adapter that does not fit the model ends the start, not the first request that names it."""
    adapter = shelf.find(name)
    assert adapter is not None
    try:
        await prove(engine, adapter)
    except EngineError as error:
        raise AdapterError(f"adapter {name!r}: {error}") from error


def engine_config(settings: Settings, folder: Path, key_file: str | None) -> EngineConfig:
    """The engine's part of the settings."""
    return EngineConfig(
        model=str(folder),
        trust_remote_code=settings.trust_remote_code,
        dtype=settings.dtype,
        quantize=settings.quantize,
        device=settings.device,
        cache_dtype=settings.cache_dtype,
        page_size=settings.page_size or None,
        cache_bytes=settings.cache_bytes or None,
        cache_tokens=settings.cache_tokens or None,
        memory_fraction=settings.memory_fraction or None,
        cuda_graphs=settings.graph_sizes != (),
        cuda_graph_sizes=settings.graph_sizes or (),
        max_batch_tokens=settings.max_batch_tokens,
        max_sequences=settings.max_sequences,
        max_waiting=settings.max_concurrent_requests * settings.max_n,
        tensor_parallel_size=settings.tensor_parallel_size,
        rank_timeout_s=settings.rank_timeout_s,
        max_adapters=settings.max_adapters,
        max_adapter_rank=settings.max_adapter_rank,
        max_grammar_bytes=settings.max_grammar_bytes,
        threads=settings.threads or None,
        prefix_sharing=settings.prefix_sharing,
        speculate=settings.speculate,
        proposers=settings.proposers,
        heads=settings.heads or None,
        draft_model=settings.draft_model or None,
        watermark_key_file=key_file,
        watermark_commonplaces=settings.watermark_commonplaces,
        json_logs=settings.log_format == "json",
        faults=settings.faults,
    )


def _at_once(settings: Settings, keys: Keys) -> int:
    """Requests of one key: as set; else, where there are several keys, one leaves a quarter of the house to others."""
    if settings.key_requests_at_once or len(keys) < 2:
        return settings.key_requests_at_once
    return max(1, settings.max_concurrent_requests * 3 // 4)


def compile_limits(settings: Settings) -> CompileLimits:
    """The compiler's part of the settings."""
    return CompileLimits(
        workers=settings.compile_workers,
        timeout_s=settings.compile_timeout_s,
        memory_bytes=settings.compile_memory_bytes,
        cache_bytes=settings.grammar_cache_bytes,
        source_bytes=settings.max_schema_bytes,
    )


def name_folder(settings: Settings) -> NameFolder | None:
    """Where named constraints are kept, if anywhere."""
    folder = settings.grammar_folder
    return NameFolder(Path(folder), settings.grammar_folder_bytes) if folder else None


def _ends(engine: Engine, tokenizer: Tokenizer) -> list[int]:
    """The end tokens, as the engine itself joins them: a plan is for one vocabulary, ends included."""
    return list(dict.fromkeys((*engine.info.eos_token_ids, *tokenizer.eos_token_ids)))


def _template(settings: Settings, tokenizer: Tokenizer, most: int) -> ChatTemplate | None:
    source = Path(settings.chat_template).read_text("utf-8") if settings.chat_template else tokenizer.chat_template
    return ChatTemplate(source, tokenizer, most) if source else None


async def _tell(request: Request, error: Exception) -> Response:
    told = report(request.app.state.house, error, family_of(request.url.path))
    return JsonReply(told.body, told.status, headers=told.headers)


async def _tell_http(request: Request, error: Exception) -> Response:
    """The framework's own 404 and 405 in the family's shape."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    known = MethodNotAllowed(f"{request.method} is not a method of {path}") if error.status_code == 405 else None
    return await _tell(request, known or NotFound(f"no route {path}; see /docs"))


async def _tell_nobody(_request: Request, _error: Exception) -> Response:
    """The client has gone; the status is for the log (nginx's word for it)."""
    return Response(status_code=499)
