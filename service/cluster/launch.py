"""Brings a Ray cluster up or joins one, deploys replicas there, and hands the service an engine over them.

What it is for: `starting(settings)`, what `create_app` calls in place of one engine's start. What may not enter: what a
replica does, how requests are routed.

The idea: a server that is started anew finds its replicas again. The directory knows a hash of all that was deployed
with it, and the key to the replicas' sockets follows from the cluster's token; so the same settings are the same
deployment, nothing is restarted, and several servers can share one fleet. Without a cluster to join, one is made
on this machine, on the loopback interface, with a token of its own; it ends with the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import importlib.util
import logging
import os
import secrets
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq
from zmq.utils import z85

from engine import Engine, EngineConfig, EngineUnavailable
from engine.fleet.client import FleetClient
from engine.fleet.messages import KeyPair, Member
from service.cluster.autoscaling import Autoscaling
from service.cluster.directory import Directory
from service.cluster.replica import EngineReplica
from service.cluster.spec import ReplicaSpec
from service.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_STORE_BYTES = 80 << 20  # of Ray's object store, which nothing here uses; its default is a third of the memory
_SPARE_S = 15.0  # for a replica to end, beyond its drain
_ATTEMPTS = 3
_ASK_S = 5.0  # for one answer of the directory


class Ray(NamedTuple):
    """The optional package, imported once it is needed: that takes a second, and reads the environment."""

    core: Any
    serve: Any


class Listing:
    """Asks the directory's deployment; implements `engine.fleet.client.Directory`, with nothing to close."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def members(self) -> Sequence[Member]:
        """Raises LookupError while the directory does not know."""
        told = await asyncio.wait_for(self._handle.members.remote(), _ASK_S)
        if told is None:
            raise LookupError("it has just been started")
        return [Member(*each) for each in told]

    async def close(self) -> None:
        pass


class Fleet:
    """The deployed replicas; implements `engine.fleet.client.Directory`."""

    def __init__(self, ray: Ray, name: str, *, owns_cluster: bool, keeps_replicas: bool) -> None:
        self._ray = ray
        self._name = name
        self._owns_cluster = owns_cluster
        self._keeps_replicas = keeps_replicas
        self._listing = Listing(ray.serve.get_deployment_handle(Directory.__name__, app_name=name))

    async def members(self) -> Sequence[Member]:
        """See `engine.fleet.client.Directory`."""
        return await self._listing.members()

    async def close(self) -> None:
        """Ends what this server has started, and leaves the rest."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        if not self._keeps_replicas:
            self._ray.serve.delete(self._name)
        if self._owns_cluster:
            with suppress(Exception):  # whatever Serve says of its own end, the cluster goes with it
                self._ray.serve.shutdown()
        self._ray.core.shutdown()


def starting(settings: Settings) -> Callable[[EngineConfig], Awaitable[Engine]]:
    """What `create_app` calls with the engine's configuration. Raises SettingsError where the extra is missing."""
    if not has_ray():
        raise SettingsError("setting replicas: they need the extra: pip install 'formwork[ray]'")

    async def start(config: EngineConfig) -> Engine:
        fleet, keys = await asyncio.to_thread(deployed, settings, config)
        _take_signals_back()
        return await FleetClient.start(fleet, keys)

    return start


def _take_signals_back() -> None:
    """What this process did on SIGTERM before Ray was started, and nothing else.

    Ray puts Abseil's failure handler in front, which calls ours too, but aborts the process three seconds later: in the
    middle of a drain.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def has_ray() -> bool:
    return importlib.util.find_spec("ray") is not None


def deployed(settings: Settings, config: EngineConfig) -> tuple[Fleet, KeyPair]:
    """Blocks until the replicas are there. Raises EngineUnavailable with the reason why they are not."""
    ray = joined(settings)
    keys, name = fleet_keys(os.environ), app_name(settings)
    try:
        ray.serve.start(proxy_location="Disabled")
        spec = msgspec.json.encode(spec_of(settings, config, keys))
        options = options_of(ray, settings)
        version = hashlib.sha256(spec + msgspec.json.encode(options)).hexdigest()
        if deployed_version(ray, name) != version:
            interface = "" if settings.cluster else _LOOPBACK
            ray.serve.run(application_of(ray, spec, options, version, interface), name=name, route_prefix=None)
    except Exception as error:
        if not settings.cluster:
            ray.core.shutdown()
        raise EngineUnavailable(f"the replicas could not be started: {error}") from error
    fleet = Fleet(ray, name, owns_cluster=not settings.cluster, keeps_replicas=settings.keep_replicas)
    return fleet, keys


def joined(settings: Settings) -> Ray:
    """Ray, connected: to the cluster that is named, else to one of this server's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers of every start
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # else whoever reaches a port of the cluster runs code there
    if settings.cluster:
        ray = imported()
        _connect(ray, settings.cluster)
        return ray
    if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_agent_register_timeout_ms", "100000")  # on a machine under load 15 s do not suffice
    os.environ["PYTHONPATH"] = _python_path()  # Ray's processes must find this code, installed or not
    ray = imported()
    for left in reversed(range(_ATTEMPTS)):
        try:
            _begin_cluster(ray)
            break
        except Exception as error:  # Ray gives its own processes 30 s, which a machine under load may need twice
            ray.core.shutdown()
            if not left:
                raise EngineUnavailable(f"no Ray cluster could be started on this machine: {error}") from error
            logger.warning("Ray did not start (%s); trying again", error)
    return ray


def _connect(ray: Ray, cluster: str) -> None:
    """To a cluster that is there. Raises EngineUnavailable where it cannot be reached."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            ray.core.init(address=cluster, namespace="formwork", log_to_driver=False)
            return
        except ConnectionError as error:  # for each client the head starts a process, which it gives 30 s
            if not left:
                raise EngineUnavailable(f"the Ray cluster {cluster} cannot be reached: {error}") from error
            logger.warning("%s did not take this server in; trying again", cluster)


def _begin_cluster(ray: Ray) -> None:
    ray.core.init(
        address="local",
        namespace="formwork",
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address=_LOOPBACK,
    )


def deployed_version(ray: Ray, name: str) -> str | None:
    """Of the application that runs on the cluster under this name; None if there is none, or it does not answer."""
    found = ray.serve.status().applications.get(name)
    if found is None or found.status != "RUNNING":
        return None
    directory = ray.serve.get_deployment_handle(Directory.__name__, app_name=name)
    with suppress(Exception):  # whatever is wrong with it, deploying anew is the answer
        version: str = directory.deployed.remote().result(timeout_s=_ASK_S)
        return version
    return None


def application_of(ray: Ray, spec: bytes, options: dict[str, Any], version: str, interface: str) -> Any:
    """The replicas and their directory as an application of Ray Serve."""
    directory = ray.serve.deployment(Directory).options(
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=1000,
        logging_config={"enable_access_log": False},  # it is asked all the time
    )
    replicas = ray.serve.deployment(EngineReplica).options(**options)
    return replicas.bind(spec, directory.bind(version), interface)


def options_of(ray: Ray, settings: Settings) -> dict[str, Any]:
    """How Serve keeps the replicas. Raises SettingsError if they cannot fit."""
    bundle = _bundle(ray, settings)
    return {
        **_how_many(settings),
        "ray_actor_options": {"num_cpus": bundle["CPU"], "num_gpus": bundle.get("GPU", 0)},
        # One bundle holds all ranks of a replica, so they share a machine; the strategy says it once more for Ray.
        "placement_group_bundles": [bundle],
        "placement_group_strategy": "STRICT_PACK",
        "graceful_shutdown_timeout_s": settings.drain_s + _SPARE_S,
        "graceful_shutdown_wait_loop_s": 0.1,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 10.0,
        "max_constructor_retry_count": 2,
    }


def spec_of(settings: Settings, config: EngineConfig, keys: KeyPair) -> ReplicaSpec:
    """What each replica is told."""
    ring = None if config.watermark_key_file is None else Path(config.watermark_key_file).read_bytes()
    threads = config.threads or max(1, round(settings.replica_cpus))
    return ReplicaSpec(
        config=msgspec.structs.replace(config, watermark_key_file=None, threads=threads),
        model=settings.model,
        revision=settings.revision or None,
        key_ring=ring,
        client_key=keys.public,
        silence_s=settings.engine_silence_s,
        drain_s=settings.drain_s,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def app_name(settings: Settings) -> str:
    """One application for each model on a cluster."""
    return f"formwork-{settings.model_names[0]}"


def fleet_keys(environment: Any) -> KeyPair:
    """The pair of keys with which servers open the replicas' sockets.

    It follows from the cluster's token: who holds that may run any code on the cluster, this too. Without a token the
    pair is made anew, and with it the replicas at each start.
    """
    token = environment.get("RAY_AUTH_TOKEN", "").encode()
    path = environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    if not token and environment.get("RAY_AUTH_MODE") == "token":
        with suppress(OSError):
            token = Path(path).read_bytes().strip()
    seed = hmac.digest(token, b"formwork: keys of a fleet", "sha256") if token else secrets.token_bytes(32)
    secret = z85.encode(seed)
    return KeyPair(zmq.curve_public(secret).decode(), secret.decode())


def imported() -> Ray:
    """The package, which takes a second to import."""
    return Ray(importlib.import_module("ray"), importlib.import_module("ray.serve"))


def _python_path() -> str:
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _bundle(ray: Ray, settings: Settings) -> dict[str, float]:
    """What Ray sets aside for one replica, all its ranks together."""
    there, ranks = ray.core.cluster_resources(), settings.tensor_parallel_size
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and there.get("GPU", 0) > 0)
    bundle = {"CPU": settings.replica_cpus * ranks, **({"GPU": float(ranks)} if on_gpu else {})}
    for name, each in bundle.items():
        if each * settings.replicas > there.get(name, 0):
            raise SettingsError(
                f"setting replicas: {settings.replicas} of {each:g} {name} each do not fit the cluster's "
                f"{there.get(name, 0):g}; see replica_cpus and tensor_parallel_size"
            )
    return bundle


def _how_many(settings: Settings) -> dict[str, Any]:
    """A number that stays, or bounds and a policy."""
    if settings.max_replicas <= settings.replicas:
        return {"num_replicas": settings.replicas}
    least, most = settings.replicas, settings.max_replicas
    rules = {
        "least": least,
        "most": most,
        "first_token_s": settings.first_token_s,
        "rise_s": settings.scale_up_s,
        "fall_s": settings.scale_down_s,
    }
    policy = {"policy_function": f"{Autoscaling.__module__}:{Autoscaling.__name__}", "policy_kwargs": rules}
    # The policy has delays of its own, so Serve adds none.
    delays = {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0}
    return {"autoscaling_config": {"min_replicas": least, "max_replicas": most, "policy": policy, **delays}}
