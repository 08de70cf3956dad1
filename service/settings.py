"""Every setting of the service, in one table: command line `--name`, environment `FORMWORK_<NAME>`, a line of a TOML
file, and its default, in this order of strength. Other names for them are in `service.aliases`.

What it is for: the only place that reads the environment. What may not enter: what the settings do. A wrong value, an
unknown `FORMWORK_…` variable or an unknown line of the file stops the start, with its name.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.config import Proposer, QuantizeName
from service.aliases import ALIASES
from service.families import CallParser, ThoughtParser
from service.speculative import settings_of

PREFIX = "FORMWORK_"


class SettingsError(Exception):
    """A setting that is wrong or unknown; the message names it."""


class Settings(BaseSettings):
    """All settings; frozen."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, protected_namespaces=(), env_ignore_empty=True
    )

    # What is served.
    model: str = Field(default="models/formwork-mini", description="A local folder or a hub id.")
    served_model_name: str = Field(
        default="",
        description="Comma-separated names for `model`; empty: the folder's name. default and tgi always work.",
    )
    revision: str = Field(default="", description="Branch, tag or commit of a hub id; empty: its main branch.")
    trust_remote_code: bool = Field(
        default=False, description="Run the Python files of a model that names its own; off: it is refused."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(default="auto", description="Weights' type.")
    quantize: QuantizeName = Field(
        default="auto", description="How weights are held (docs/quantization.md); auto: as the checkpoint has them."
    )
    tensor_parallel_size: int = Field(
        default=1, ge=1, le=64, description="Ranks that share each layer, a GPU or a process on the CPU each."
    )
    rank_timeout_s: float = Field(
        default=10.0, ge=1.0, description="A rank that is missing in a step for so long has died or hangs."
    )
    device: str = Field(default="auto", description="cpu, cuda, cuda:1, or auto.")
    adapters: str = Field(
        default="", description="LoRA adapters that can be named as the model: name=folder or hub id, comma-separated."
    )
    max_adapters: int = Field(
        default=8, ge=0, le=256, description="Adapters that the engine holds at once; 0: none is served."
    )
    max_adapter_rank: int = Field(default=64, ge=1, le=512, description="Largest rank of an adapter.")
    adapter_folder: str = Field(
        default="", description="Where adapters may be loaded from at run time; empty: they may not."
    )
    chat_template: str = Field(default="", description="A file with a Jinja template in place of the model's own.")
    tool_call_parser: CallParser = Field(
        default="auto", description="How the model's family spells tool calls; auto: as its chat template shows."
    )
    reasoning_parser: ThoughtParser = Field(
        default="auto", description="How it marks reasoning; none: answers hold no reasoning."
    )

    # Where.
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    uds: str = Field(default="", description="A Unix socket to listen on in place of host and port.")
    playground: bool = Field(default=True, description="A page at /playground to try constraints on.")
    root_path: str = Field(default="", description="Path prefix that a proxy strips.")
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="/metrics and health on a port of their own, without keys; 0: on `port`."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of `metrics_port`.")

    # Past one engine.
    replicas: int = Field(
        default=0, ge=0, le=4096, description="Engines on a Ray cluster; 0: one, without Ray. Needs the extra `ray`."
    )
    max_replicas: int = Field(
        default=0, ge=0, le=4096, description="Above `replicas`: as many as the load asks for, up to this."
    )
    cluster: str = Field(
        default="",
        description="A Ray cluster that this machine is in (auto, host:6379) or is not (ray://head:10001); empty: one "
        "of its own.",
    )
    replica_cpus: float = Field(
        default=1.0, gt=0, le=1024, description="CPUs that Ray sets aside for each rank of a replica."
    )
    first_token_s: float = Field(
        default=2.0, gt=0, description="What `max_replicas` aims at: a request queues for a third of it at most."
    )
    scale_up_s: float = Field(default=15.0, ge=0, description="Replicas are added when load has lasted so long.")
    scale_down_s: float = Field(default=300.0, ge=0, description="They are removed, few at a time, after such a calm.")
    keep_replicas: bool = Field(
        default=False,
        description="Leave the replicas on `cluster` when this server ends: others use them, or it again.",
    )

    # How much.
    threads: int = Field(default=0, ge=0, le=1024, description="Compute threads of the engine; 0: all cores.")
    page_size: int = Field(
        default=0, ge=0, le=1024, description="Tokens in a page of the cache; 0: 64 on a CPU, else 16."
    )
    cache_bytes: int = Field(default=0, ge=0, description="Memory for pages; 0: found at start.")
    cache_tokens: int = Field(default=0, ge=0, description="The same in tokens, over all running sequences; 0: found.")
    cache_dtype: Literal["auto", "float32", "bfloat16", "float16", "fp8"] = Field(
        default="auto", description="Type of keys and values in the cache; auto: the weights'. fp8 on a GPU."
    )
    memory_fraction: float = Field(
        default=0.0, ge=0, le=1, description="Share of the free memory for pages; 0: .9 of a GPU's, .25 of a CPU's."
    )
    cuda_graphs: str = Field(
        default="auto",
        description="Numbers of sequences for which a GPU's steps of few tokens are recorded: 1,2,4,8; auto: up to "
        "`max_sequences`; 0: none.",
    )
    max_batch_tokens: int = Field(default=512, ge=1, le=1_000_000, description="Tokens in one engine step.")
    max_sequences: int = Field(default=64, ge=1, le=4096, description="Sequences running at once.")
    max_concurrent_requests: int = Field(
        default=256, ge=1, description="Requests in the house; more get 503 (TGI: 429)."
    )
    max_n: int = Field(default=16, ge=1, le=128, description="Largest n, best_of, and number of prompts times n.")
    max_stop_sequences: int = Field(default=16, ge=0, le=16, description="Stop strings in a request.")
    max_top_n_tokens: int = Field(default=20, ge=0, le=20, description="Alternatives told with a token.")
    max_input_tokens: int = Field(default=0, ge=0, description="Prompt; 0: what the context leaves.")
    max_model_len: int = Field(default=0, ge=0, description="Prompt and output together; 0: the model's own limit.")
    max_grammar_bytes: int = Field(
        default=1 << 30, ge=1 << 20, description="Grammars and their masks in the engine; unused ones give way."
    )
    prefix_sharing: bool = Field(default=True, description="Share the pages of equal prompt prefixes.")
    speculate: int = Field(
        default=16,
        ge=0,
        le=64,
        description="Tokens guessed ahead for one pass to verify; 0: none. Never changes what is drawn.",
    )
    speculate_with: str = Field(default=",".join(get_args(Proposer)), description="Who guesses, comma-separated.")
    draft_model: str = Field(
        default="", description="A folder or hub id: a smaller model of the same vocabulary that guesses; empty: none."
    )
    heads: str = Field(
        default="",
        description="A folder with Medusa heads for the model; empty: the model's own folder, if it has some.",
    )
    speculative_config: str = Field(default="", description="vLLM's JSON object in place of these.")
    body_limit_bytes: int = Field(default=4_000_000, ge=1024, description="A larger body is a 413.")
    bodies_limit_bytes: int = Field(
        default=256_000_000, ge=1024, description="Bytes of bodies that are still arriving; beyond it, 503."
    )
    body_timeout_s: float = Field(default=30.0, gt=0, description="Time for a body to arrive.")
    heartbeat_s: float = Field(default=15.0, gt=0, description="A stream that is silent so long gets a comment line.")
    drain_s: float = Field(default=30.0, ge=0, description="After SIGTERM running requests have so long to finish.")
    max_connections: int = Field(default=1024, ge=1, description="Open connections; one more gets 503 and is closed.")
    head_limit_bytes: int = Field(default=64 << 10, ge=1024, description="Request line and headers; larger is a 431.")
    head_timeout_s: float = Field(default=10.0, gt=0, description="Time for a request's head to arrive (408).")
    send_timeout_s: float = Field(default=60.0, gt=0, description="A stream whose reader takes longer is cut.")
    engine_silence_s: float = Field(default=60.0, gt=0, description="An engine without a sign of life is restarted.")

    # Constraints.
    compile_workers: int = Field(default=1, ge=1, le=64, description="Processes that compile constraints.")
    compile_timeout_s: float = Field(default=10.0, gt=0, le=600, description="Wall time of one compilation.")
    compile_memory_bytes: int = Field(default=4 << 30, ge=1 << 29, description="Address space of a compile worker.")
    grammar_cache_bytes: int = Field(default=256 << 20, ge=0, description="Compiled plans kept in this process.")
    grammar_folder: str = Field(
        default="", description="Keeps named constraints over restarts; empty: they are forgotten at the end."
    )
    grammar_folder_bytes: int = Field(default=64 << 20, ge=1024, description="All that is kept there.")
    max_schema_bytes: int = Field(default=1_000_000, ge=64, description="Larger constraints are refused.")

    # Conversations.
    response_store_bytes: int = Field(
        default=0, ge=0, description="Memory for responses that `previous_response_id` goes on from; 0: none are kept."
    )

    # Who.
    api_keys: str = Field(default="", repr=False, description="Comma-separated keys; empty: no key is asked for.")
    api_keys_file: str = Field(
        default="", description="Keys by hash, with scopes and limits; `formwork key` makes one."
    )
    key_requests_at_once: int = Field(
        default=0, ge=0, description="Running requests of one key; more get 429; 0: three quarters."
    )
    key_requests_per_minute: int = Field(default=0, ge=0, description="Requests of one key; more get 429; 0: any.")
    cors_allow_origins: str = Field(default="", description="Comma-separated origins; empty: none.")

    # Log-probs and watermark.
    logprobs: bool = Field(default=True, description="Log-probs on chat and Responses answers that do not say.")
    watermark: Literal["default", "enforce", "off"] = Field(
        default="default", description="On unless the request says no; on always; off."
    )
    watermark_keys: str = Field(default="", repr=False, description="id:hex,…; the first marks, all are detected.")
    watermark_key_file: str = Field(default="", description="The same in a file.")
    watermark_commonplaces: str = Field(
        default="",
        description="What the detector does not count: a file of `formwork commonplaces`; empty: the model's own; off.",
    )
    watermark_threshold: float = Field(default=1e-4, gt=0, lt=1, description="p-value that counts as watermarked.")

    # Logs.
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["text", "json"] = Field(default="text", description="Lines for people, or JSON objects.")
    access_log: bool = Field(default=False, description="One line per request.")
    otlp_endpoint: str = Field(
        default="", description="URL of an OTLP/HTTP collector (…/v1/traces) for traces; needs the extra `tracing`."
    )
    otlp_service_name: str = Field(default="formwork", min_length=1, description="The service's name in traces.")
    compute_type: str = Field(
        default="", description="The x-compute-type of responses; empty: cpu+optimized or gpu+optimized."
    )

    # Rehearsals.
    faults: str = Field(default="", description="What breaks on purpose (engine/faults.py); needs `allow_faults`.")
    allow_faults: bool = Field(default=False, description="Never where anyone depends on the server.")

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, str]:
        """Where each setting that is not its default came from."""
        return self._sources

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names under which the model is listed, the first being the one in replies."""
        names = tuple(name.strip() for name in self.served_model_name.split(",") if name.strip())
        return names or (self.model.rstrip("/").rsplit("/", 1)[-1],)

    @property
    def proposers(self) -> tuple[Proposer, ...]:
        return cast(
            "tuple[Proposer, ...]", tuple(each.strip() for each in self.speculate_with.split(",") if each.strip())
        )

    @field_validator("speculate_with")
    @classmethod
    def _known_proposers(cls, value: str) -> str:
        unknown = {each.strip() for each in value.split(",")} - {"", *get_args(Proposer)}
        if unknown:
            raise ValueError(f"unknown proposer {', '.join(sorted(unknown))}; known: {', '.join(get_args(Proposer))}")
        return value

    @field_validator("cuda_graphs", mode="before")
    @classmethod
    def _graph_sizes(cls, value: object) -> str:
        """As a file's `true` or list, or a word; told as `auto`, `0` or sizes in order."""
        spelled = _GRAPH_WORDS.get(str(value).lower(), str(value))
        if spelled == "auto":
            return spelled
        sizes = [size.strip() for size in spelled.split(",")]
        if not all(size.isdecimal() for size in sizes):
            raise ValueError("say auto, 0, or numbers of sequences: 1,2,4,8")
        return ",".join(map(str, sorted({int(size) for size in sizes} - {0}))) or "0"

    @property
    def graph_sizes(self) -> tuple[int, ...] | None:
        """For which numbers of sequences decode steps are recorded; None: the engine's choice."""
        return (
            None
            if self.cuda_graphs == "auto"
            else tuple(int(size) for size in self.cuda_graphs.split(",") if int(size))
        )

    @field_validator("quantize", mode="before")
    @classmethod
    def _served_scheme(cls, value: object) -> object:
        if value == "exl2":
            raise ValueError("exl2 is not served: its package holds a model of its own; serve the model as gptq or awq")
        return value

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key.strip() for key in self.api_keys.split(",") if key.strip())

    @property
    def origins(self) -> list[str]:
        return [origin.strip() for origin in self.cors_allow_origins.split(",") if origin.strip()]


def load_settings(flags: Mapping[str, Any] | None = None, config: str | None = None) -> Settings:
    """The settings; a flag is None where it was not given. Raises SettingsError naming what is wrong."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {_CONFIG}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    path = config or os.environ.get(_CONFIG, "")
    values, sources = _chosen(flags or {}, _from_file(path) if path else {}, path)
    _spread(values, sources)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f", from {sources[name]}" if name in sources else ""
        raise SettingsError(f"setting {name} ({PREFIX}{name.upper()}{where}): {first['msg']}") from None
    if settings.faults and not settings.allow_faults:
        raise SettingsError("setting faults: the server would break on purpose; say allow_faults too if that is meant")
    _check_replicas(settings)
    settings._sources.update(sources)
    return settings


def _check_replicas(settings: Settings) -> None:
    """Settings of a fleet that would change nothing are refused, not forgotten."""
    idle = [name for name in ("max_replicas", "cluster", "keep_replicas") if getattr(settings, name)]
    if idle and not settings.replicas:
        raise SettingsError(f"setting {idle[0]}: say how many engines there should be with replicas")
    if settings.keep_replicas and not settings.cluster:
        raise SettingsError("setting keep_replicas: a cluster of this server's own ends with it; name one with cluster")
    if 0 < settings.max_replicas < settings.replicas:
        raise SettingsError(f"setting max_replicas: {settings.max_replicas} is below replicas ({settings.replicas})")


_CONFIG = PREFIX + "CONFIG"
_GRAPH_WORDS = {"true": "auto", "false": "0", "off": "0"}


def _chosen(flags: Mapping[str, Any], filed: Mapping[str, Any], path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The strongest value of each setting, and where it came from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = next((each for each in _variables(name) if os.environ.get(each)), None)
        if flags.get(name) is not None:
            values[name], sources[name] = flags[name], "the command line"
        elif variable is not None:
            values[name], sources[name] = _said(name, os.environ[variable]), variable
        elif name in filed:
            values[name], sources[name] = filed[name], path
    return values, sources


def _spread(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Puts what vLLM's `speculative_config` says into our own settings, which it must not contradict."""
    if not values.get("speculative_config"):
        return
    source = sources["speculative_config"]
    try:
        found = settings_of(values["speculative_config"])
    except ValueError as error:
        raise SettingsError(f"setting speculative_config (from {source}): {error}") from None
    if twice := next((name for name in found if name in values), None):
        raise SettingsError(f"speculative_config (from {source}) and {twice} ({sources[twice]}) say the same; give one")
    values.update(found)
    sources.update(dict.fromkeys(found, source))


def _said(name: str, value: str) -> str:
    """The value in our words."""
    return ALIASES[name].words.get(value, value) if name in ALIASES else value


def _variables(name: str) -> Iterator[str]:
    yield PREFIX + name.upper()
    yield from ALIASES[name].variables if name in ALIASES else ()


def _from_file(path: str) -> dict[str, Any]:
    """A TOML file of settings, by their names with either `_` or `-`."""
    try:
        read = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    found = {name.replace("-", "_"): value for name, value in read.items()}
    if unknown := sorted(set(found) - set(Settings.model_fields)):
        raise SettingsError(f"{path}: unknown setting {', '.join(unknown)}")
    return {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in found.items()}
