"""A replica's life without a cluster: it announces itself, says how it is, and ends without losing a request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine import EngineConfig, EngineState
from engine.client import EngineClient
from engine.fleet.client import FleetClient
from engine.fleet.messages import Member
from service.cluster.replica import EngineReplica
from service.cluster.spec import ReplicaSpec
from tests.engine.fleet.fleets import QUICK, Fleet, Resumable, read, request, text_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Remote:
    """A method of a handle, as Serve's: called with `remote`."""

    def __init__(self, method: Any) -> None:
        self._method = method

    async def remote(self, *arguments: Any) -> Any:
        return self._method(*arguments)


class Told:
    """The directory's handle, and what it was told."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.announce = Remote(self._announce)
        self.retract = Remote(lambda name: fleet.listed.pop(name, None))

    def _announce(self, name: str, address: str, key: str) -> None:
        self._fleet.listed[name] = Member(name, address, key)


class Started:
    """Stands for `EngineClient`: an engine that is told what to do, and the configuration it was started with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Resumable()
        self.config: EngineConfig | None = None
        self.pid = 1
        monkeypatch.setattr(EngineClient, "start", self._start)

    async def _start(self, config: EngineConfig, _supervision: Any) -> Resumable:
        self.config = config
        self.key_ring = Path(config.watermark_key_file).read_bytes() if config.watermark_key_file else None
        return self.engine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


async def replica_in(fleet: Fleet, model: str, **changes: Any) -> EngineReplica:
    spec = ReplicaSpec(
        config=EngineConfig(model=model), model=model, revision=None, key_ring=None, client_key=fleet.keys.public,
        silence_s=5.0, drain_s=5.0, log_level="info", log_format="text",
    )  # fmt: skip
    replica = EngineReplica.__new__(EngineReplica)
    told = msgspec.json.encode(msgspec.structs.replace(spec, **changes))
    await EngineReplica.__init__(replica, told, Told(fleet), "127.0.0.1")
    while not fleet.listed:
        await asyncio.sleep(0.01)
    return replica


async def test_it_can_be_used_by_those_who_find_it_in_the_directory(started: Started, tmp_path: Path) -> None:
    fleet = Fleet()
    replica = await replica_in(fleet, str(tmp_path))
    client = await FleetClient.start(fleet, fleet.keys, QUICK)
    assert await read(client, request("r")) == text_of(request("r"))
    await client.close()
    await replica.drain()


async def test_it_ends_after_its_streams(started: Started, tmp_path: Path) -> None:
    fleet = Fleet()
    replica = await replica_in(fleet, str(tmp_path))
    client = await FleetClient.start(fleet, fleet.keys, QUICK)
    stream = asyncio.create_task(read(client, request("r")))
    while not started.engine.running:
        await asyncio.sleep(0.005)
    await replica.drain()
    assert fleet.listed == {}
    assert await stream == text_of(request("r"))
    assert started.engine.state is EngineState.CLOSED
    await client.close()


async def test_a_key_ring_is_a_file_of_its_own_while_it_lives(started: Started, tmp_path: Path) -> None:
    replica = await replica_in(Fleet(), str(tmp_path), key_ring=b"[keys]")
    assert started.config is not None
    path = Path(str(started.config.watermark_key_file))
    assert started.key_ring == b"[keys]"
    assert path.stat().st_mode & 0o077 == 0
    await replica.drain()
    assert not path.exists()


async def test_serve_is_told_when_the_engine_was_given_up(started: Started, tmp_path: Path) -> None:
    replica = await replica_in(Fleet(), str(tmp_path))
    await replica.check_health()
    started.engine.state = EngineState.BROKEN
    with pytest.raises(RuntimeError, match="broken"):
        await replica.check_health()
    await replica.drain()
    with pytest.raises(RuntimeError):
        await replica.check_health()


async def test_it_tells_the_autoscaler_what_waits(started: Started, tmp_path: Path) -> None:
    replica = await replica_in(Fleet(), str(tmp_path))
    told = replica.record_autoscaling_stats()
    assert told == {"queued_tokens": 0.0, "page_share": 0.0, "queue_s": 0.0, "busy": 0.0, "prefill_rate": 0.0}
    await replica.drain()


async def test_a_model_whose_folder_is_not_on_this_machine_is_found_by_its_name(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def located(*name: Any, code: bool) -> Path:
        asked.append(name)
        return tmp_path

    monkeypatch.setattr("service.cluster.replica.locate", located)
    elsewhere = EngineConfig(model="/not/on/this/machine")
    replica = await replica_in(Fleet(), "org/model", config=elsewhere, revision="main")
    assert asked == [("org/model", "main")]
    assert started.config is not None
    assert started.config.model == str(tmp_path)
    await replica.drain()


async def test_it_serves_while_the_directory_is_away(started: Started, tmp_path: Path) -> None:
    fleet = Fleet()
    replica = await replica_in(fleet, str(tmp_path))

    def away(*_: Any) -> None:
        raise OSError("it is being restarted")

    replica._directory.announce = Remote(away)
    client = await FleetClient.start(fleet, fleet.keys, QUICK)
    assert await read(client, request("r")) == text_of(request("r"))
    await client.close()
    replica._directory.retract = Remote(away)
    await replica.drain()
