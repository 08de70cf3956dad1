"""Replicas on a Ray cluster of several nodes on this machine, and what becomes of streams when parts of it die.

Run by `test_ray.py` with an interpreter that has Ray: `python use_ray.py SCENARIO MODEL`. It prints a line for each
thing that was found to hold, and ends with a traceback at the first that does not.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
START_S = 300.0
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "age": {"type": "integer"},
        "notes": {"type": "string"},
    },
    "required": ["name", "age", "notes"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
KINDS: list[dict[str, Any]] = [
    {"temperature": 0, "ignore_eos": True},
    {"temperature": 1.2, "seed": 1, "ignore_eos": True},
    {"temperature": 1.0, "seed": 2, "response_format": FORMAT},
    {"temperature": 1.4, "seed": 4, "guided_regex": "[a-z ]{200,300}"},
    {"temperature": 1.0, "seed": 5, "frequency_penalty": 0.5, "ignore_eos": True},
    {"temperature": 1.0, "seed": 6, "n": 2, "ignore_eos": True},
]  # fmt: skip


def say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def until(what: str, holds: Callable[[], bool], timeout_s: float = START_S) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)
    say(what)


class Site:
    """Where the service answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=30) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def stream(self, fields: dict[str, Any]) -> list[str]:
        """The texts of a stream's choices; it must end as a stream does that is whole."""
        messages = [{"role": "user", "content": "Maria Silva is 34 years old and lives in Porto."}]
        body = json.dumps(
            {"messages": messages, "max_tokens": 400, "stream": True, "logprobs": False, **fields}
        ).encode()
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", body, {"Content-Type": "application/json"})
        texts = [""] * fields.get("n", 1)
        with urllib.request.urlopen(request, timeout=300) as response:
            lines = [line.decode().strip().removeprefix("data: ") for line in response if line.startswith(b"data: ")]
        assert lines[-1] == "[DONE]", lines[-1]
        for event in map(json.loads, lines[:-1]):
            assert "error" not in event, event
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
        return texts

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            return next(
                float(line.split()[1]) for line in response.read().decode().splitlines() if line.startswith(name + " ")
            )


class Server(Site):
    """`formwork serve` with replicas on a cluster."""

    def __init__(self, model: str, *flags: str) -> None:
        self.log = Path(tempfile.mkstemp(prefix="formwork-log-")[1])
        command = [sys.executable, "-m", "service.cli", "serve", model, "--port", "0", *flags]
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT)
        end = time.monotonic() + START_S
        while not (found := re.search(r"serves .* on (http://127\.0\.0\.1:\d+)", self.log.read_text("utf-8"))):
            assert self.process.poll() is None, self.log.read_text("utf-8")
            assert time.monotonic() < end, self.log.read_text("utf-8")
            time.sleep(0.2)
        super().__init__(found[1])
        atexit.register(self.process.kill)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(90) == 0, self.log.read_text("utf-8")[-3000:]


def all_of(server: Site, meanwhile: Callable[[], None] | None = None) -> list[list[str]]:
    """Every kind of request at once; `meanwhile` happens once they are under way."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        streams = [pool.submit(server.stream, fields) for fields in KINDS]
        if meanwhile is not None:
            while server.metric("tgi_batch_current_size") < 4:
                assert not all(stream.done() for stream in streams), "they ended before anything could happen"
                time.sleep(0.01)
            meanwhile()
        return [stream.result() for stream in streams]


def replica_pids() -> list[int]:
    """Of the processes that hold an engine each, oldest first."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if (
                b"ServeReplica" in line
                and b"EngineReplica" in line
                and os.environ["RAY_AUTH_TOKEN"].encode() in environ(folder)
            ):
                found.append(int(folder.name))
    return sorted(found)


def kill_node(cluster: Any, node: Any) -> None:
    """Everything that runs there ends at once, as when a machine loses power."""
    there = processes_of(node)
    cluster.remove_node(node, allow_graceful=False)
    for pid in there:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def processes_of(node: Any) -> list[int]:
    """All that a node has started."""
    return descendants(node.all_processes["raylet"][0].process.pid)


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    found = parents.get(pid, [])
    return found + [each for child in found for each in descendants(child)]


def environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


@contextmanager
def cluster_of(*cpus: int, client_port: int | None = None) -> Iterator[Any]:
    """A head without CPUs, which takes clients at a port if one is given, and a node for each number."""
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_agent_register_timeout_ms="100000",  # a machine under load
        RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S="1",
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        FORMWORK_WATERMARK_KEYS="k:" + "ab" * 32,
    )
    from ray.cluster_utils import Cluster  # noqa: PLC0415  # it reads the environment

    store = 80 << 20
    head = {"num_cpus": 0, "object_store_memory": store, "ray_client_server_port": client_port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=count, object_store_memory=store) for count in cpus]
    try:
        yield cluster, nodes
    finally:
        cluster.shutdown()


def flags_of(cluster: Any, *more: str) -> tuple[str, ...]:
    return ("--cluster", cluster.address, "--dtype", "float32", "--device", "cpu", "--threads", "1",
            "--cache-tokens", "16384", "--drain-s", "20", *more)  # fmt: skip


def deaths(model: str) -> None:
    """kill -9 of a replica, of a node, and of the server itself."""
    with cluster_of(2, 2) as (cluster, nodes):
        flags = flags_of(cluster, "--replicas", "2")
        server = Server(model, *flags)
        until("two replicas are there", lambda: server.metric("formwork_engines") == 2)
        quiet = all_of(server)
        assert all_of(server) == quiet
        say("undisturbed streams repeat themselves")
        victims = replica_pids()
        assert len(victims) == 2
        assert all_of(server, lambda: os.kill(victims[0], signal.SIGKILL)) == quiet
        assert server.metric("formwork_requests_lost_total") == 0
        assert server.metric("formwork_resumptions_total") >= 1
        say("a replica was killed: every stream is that of the undisturbed run")
        until("it was replaced", lambda: server.metric("formwork_engines") == 2)
        used = next(node for node in nodes if set(processes_of(node)) & set(replica_pids()))
        assert all_of(server, lambda: kill_node(cluster, used)) == quiet
        assert server.metric("formwork_requests_lost_total") == 0
        until("the death was noticed", lambda: server.metric("formwork_engine_restarts_total") >= 2)
        say("a node was killed: every stream is that of the undisturbed run")
        until("its replica was replaced on the other node", lambda: server.metric("formwork_engines") == 2)
        before = replica_pids()
        server.process.kill()
        server.process.wait()
        server = Server(model, *flags)
        until("a new server found two replicas", lambda: server.metric("formwork_engines") == 2)
        assert replica_pids() == before
        assert all_of(server) == quiet
        say("the server was killed: the next one uses the same replicas")
        server.end()
        until("with the server its replicas end", lambda: not replica_pids())


def changes(model: str) -> None:
    """Every replica is replaced under load (row 45); their number follows the load."""
    with cluster_of(4) as (cluster, _):
        server = Server(model, *flags_of(cluster, "--replicas", "2", "--keep-replicas"))
        until("two replicas are there", lambda: server.metric("formwork_engines") == 2)
        quiet, before = all_of(server), replica_pids()
        scaling = (
            "--max-replicas",
            "3",
            "--scale-up-s",
            "2",
            "--scale-down-s",
            "12",
            "--first-token-s",
            "0.2",
            "--max-sequences",
            "4",
        )
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(Server, model, *flags_of(cluster, "--replicas", "2", *scaling))
            while not other.done():
                assert all_of(server) == quiet
        assert not set(before) & set(replica_pids())
        assert server.metric("formwork_requests_lost_total") == 0
        say("every replica was replaced under load: no request failed, no stream changed")
        server.end()
        server = other.result()
        with ThreadPoolExecutor(24) as pool:
            streams = [pool.submit(server.stream, {**KINDS[index % 6], "max_tokens": 300}) for index in range(72)]
            until("a third replica came with the load", lambda: server.metric("formwork_engines") == 3)
            assert all(stream.result() for stream in streams)
        until("and went with it", lambda: server.metric("formwork_engines") == 2)
        assert server.metric("formwork_requests_lost_total") == 0
        server.end()


def client(model: str) -> None:
    """A server that is in no Ray cluster: Ray Client starts its replicas, it speaks to them."""
    port = free_port()
    with cluster_of(2, client_port=port) as (cluster, _):
        flags = ("--cluster", f"ray://127.0.0.1:{port}", *flags_of(cluster)[2:], "--replicas", "2")
        server = Server(model, *flags)
        until("two replicas are there", lambda: server.metric("formwork_engines") == 2)
        quiet = all_of(server)
        assert all_of(server, lambda: os.kill(replica_pids()[0], signal.SIGKILL)) == quiet
        assert server.metric("formwork_requests_lost_total") == 0
        say("a replica was killed: every stream is that of the undisturbed run")
        until("it was replaced", lambda: server.metric("formwork_engines") == 2)
        server.end()
        until("with the server its replicas end", lambda: not replica_pids())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def file(model: str) -> None:
    """Serve's own configuration file: ingress and replicas are all on the cluster."""
    port = free_port()
    with cluster_of(4) as (cluster, _):
        settings = {"model": model, "replicas": 2, "ingresses": 2, "cache_tokens": 16384, "threads": 1}
        application = {"name": "formwork", "import_path": "service.cluster.application:build", "args": settings}
        written = Path(tempfile.mkdtemp()) / "serve.yaml"  # JSON is YAML
        written.write_text(json.dumps({"http_options": {"port": port}, "applications": [application]}))
        command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", cluster.address, str(written)]
        process = subprocess.Popen(command, cwd=ROOT)
        atexit.register(process.kill)
        site = Site(f"http://127.0.0.1:{port}")
        until("the service is ready", lambda: process.poll() is None and site.is_ready())
        assert all_of(site) == all_of(site)
        say("a stream came through Serve")
        process.send_signal(signal.SIGINT)
        process.wait(90)


if __name__ == "__main__":
    # A shell's background jobs ignore it, and so would `serve run`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    {"deaths": deaths, "changes": changes, "client": client, "file": file}[sys.argv[1]](sys.argv[2])
