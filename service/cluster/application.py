"""The whole service as an application of Ray Serve, for its own configuration files and for clusters far away.

What it is for: `build`, the import path of such a file. What may not enter: behaviour; the ingress is the application
that `formwork serve` runs, and the replicas are those of `launch.py`.

    applications:
      - name: formwork
        import_path: service.cluster.application:build
        args: {model: org/model, replicas: 4, ingresses: 2, watermark_key_file: /etc/formwork/keys.toml}

`args` are settings by name, and `ingresses`: how many processes take requests. Serve's proxies do what uvicorn does in
`formwork serve`: hosts, ports, and limits of connections are theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI

from engine import Engine, EngineConfig
from engine.fleet.client import FleetClient
from engine.fleet.messages import KeyPair
from service.app import create_app, engine_config
from service.cluster.directory import Directory
from service.cluster.launch import Listing, Ray, fleet_keys, imported, options_of, spec_of
from service.cluster.replica import EngineReplica
from service.logs import set_up
from service.marking import discard_key_file, make_marker
from service.settings import Settings, SettingsError, load_settings

_INGRESSES = "ingresses"
_SPARE_S = 15.0
_AT_ONCE = 10_000  # requests of one ingress; the gate of the house refuses earlier


def build(arguments: Mapping[str, Any]) -> Any:
    """The application for Serve. Raises SettingsError for what a cluster cannot do."""
    flags = dict(arguments)
    ingresses = int(flags.pop(_INGRESSES, 1))
    unknown = sorted(set(flags) - set(Settings.model_fields))
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}")
    return application(imported(), load_settings(flags), ingresses, fleet_keys(os.environ))


def application(ray: Ray, settings: Settings, ingresses: int, keys: KeyPair) -> Any:
    """Ingress, replicas and their directory."""
    if settings.replicas < 1:
        raise SettingsError("setting replicas: a cluster needs one at least")
    if settings.watermark != "off" and not (settings.watermark_keys or settings.watermark_key_file):
        raise SettingsError("setting watermark_keys: several processes must mark alike, so the key has to be given")
    spec, options = msgspec.json.encode(_spec(settings, keys)), options_of(ray, settings)
    version = hashlib.sha256(spec + msgspec.json.encode(options)).hexdigest()
    directory = ray.serve.deployment(Directory).options(
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=1000,
        logging_config={"enable_access_log": False},  # it is asked all the time
    )
    listed = directory.bind(version)
    replicas = ray.serve.deployment(EngineReplica).options(**options).bind(spec, listed, "")
    ingress = ray.serve.deployment(ray.serve.ingress(_app_of(ray, settings, keys))(), name="Ingress").options(
        num_replicas=ingresses,
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=_AT_ONCE,
        graceful_shutdown_timeout_s=settings.drain_s + _SPARE_S,
    )
    return ingress.bind(listed, replicas)


def _app_of(ray: Ray, settings: Settings, keys: KeyPair) -> Callable[[], FastAPI]:
    """What each ingress calls to make its application: it travels, the application does not."""

    def start_engine(_config: EngineConfig) -> Awaitable[Engine]:
        name = ray.serve.get_replica_context().app_name
        return FleetClient.start(Listing(ray.serve.get_deployment_handle(Directory.__name__, app_name=name)), keys)

    def app() -> FastAPI:
        set_up(settings.log_level, settings.log_format)
        return create_app(settings, start_engine)

    return app


def _spec(settings: Settings, keys: KeyPair) -> Any:
    """What a replica is told; the file of watermark keys is made for a moment, to be sent as content."""
    marker = make_marker(
        settings.watermark, settings.watermark_threshold, settings.watermark_keys, settings.watermark_key_file
    )
    with contextlib.ExitStack() as stack:
        stack.callback(discard_key_file, marker, settings.watermark_key_file)
        return spec_of(settings, engine_config(settings, Path(settings.model), marker.key_file), keys)
