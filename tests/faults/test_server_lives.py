"""Rows 26, 27, 28, 33: signals, a killed engine, rank and compile worker, seen by clients of a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.oracle import FORMAT, MESSAGES, Target, family, text_of
from tests.service.processes import MODEL, ROOT, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KINDS: list[dict[str, Any]] = [
    {"temperature": 0}, {"temperature": 1.2, "seed": 1}, {"response_format": FORMAT, "seed": 2, "temperature": 1.0},
    {"n": 3, "seed": 3, "temperature": 1.0}, {"guided_regex": "[a-z ]{200,300}", "seed": 4, "temperature": 1.4},
    {"frequency_penalty": 0.5, "seed": 5, "temperature": 1.0},
]  # fmt: skip


def readiness(target: Target) -> int:
    with target.client() as client:
        return client.get("/readyz").status_code


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def until_some_run(target: Target, streams: Sequence[Future[Any]]) -> None:
    """Waits for two at once: a short answer may have ended before a long one has begun."""
    while target.metrics()["tgi_batch_current_size"] < 2:
        assert not all(stream.done() for stream in streams), "they ended before anything could happen to them"
        time.sleep(0.005)


def test_27_killing_the_engine_is_a_pause_in_every_stream(target: Target) -> None:
    """Byte for byte the text of an undisturbed run; /readyz tells of the restart, /livez of none."""
    asked = [{"ignore_eos": True, **kind, "max_tokens": 240} for kind in KINDS]
    with ThreadPoolExecutor(len(asked)) as pool:
        quiet = list(pool.map(lambda fields: target.stream(**fields), asked))
        restarts = target.metrics()["formwork_engine_restarts_total"]
        streams = [pool.submit(target.stream, **fields) for fields in asked]
        until_some_run(target, streams)
        os.kill(target.engine_pid(), signal.SIGKILL)
        seen = set()
        while not all(stream.done() for stream in streams):
            seen.add(readiness(target))
            time.sleep(0.05)
        shaken = [stream.result() for stream in streams]
    for before, after in zip(quiet, shaken, strict=True):
        assert after[-1] is None
        assert text_of(after) == text_of(before)
    assert 503 in seen
    assert readiness(target) == 200
    told = target.metrics()
    assert told["formwork_engine_restarts_total"] == restarts + 1
    assert told["formwork_resumptions_total"] >= 2  # what was still running by then
    assert told["formwork_requests_lost_total"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_28_a_rank_that_dies_or_hangs_is_a_pause_in_every_stream(number: signal.Signals) -> None:
    """Two processes share the model: the whole team is started anew, and the streams go on where they were."""
    asked = [{"ignore_eos": True, **kind, "max_tokens": 240} for kind in KINDS[:3]]
    with running("--tensor-parallel-size", "2", "--rank-timeout-s", "5", "--max-sequences", "8") as server:
        target = Target(server, "unused", "unused", "unused")
        with ThreadPoolExecutor(len(asked)) as pool:
            quiet = list(pool.map(lambda fields: target.stream(**fields), asked))
            streams = [pool.submit(target.stream, **fields) for fields in asked]
            until_some_run(target, streams)
            os.kill(second_rank(target), number)
            shaken = [stream.result() for stream in streams]
        told = target.metrics()
    for before, after in zip(quiet, shaken, strict=True):
        assert after[-1] is None
        assert text_of(after) == text_of(before)
    assert told["formwork_engine_restarts_total"] == 1
    assert told["formwork_requests_lost_total"] == 0


def second_rank(target: Target) -> int:
    """The process that the engine process has started for its second rank."""
    ranks = [
        pid
        for pid in family(target.engine_pid())[1:]
        if b"engine.rank" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    assert len(ranks) == 1
    return ranks[0]


def test_33_a_compile_worker_may_die_or_hang(target: Target) -> None:
    """Killed while idle or at work its job goes to another; stopped, its job is refused when its time is over."""

    def compiles(pattern: str) -> int:
        return target.post("/v1/grammars", {"response_format": {"type": "regex", "value": pattern}}).status_code

    def worker() -> int:
        while not (found := target.children("service.compile_worker")):
            time.sleep(0.05)
        return found[0]

    os.kill(worker(), signal.SIGKILL)
    assert compiles("[a-z]{33}") == 200
    os.kill(worker(), signal.SIGSTOP)
    assert compiles("[a-z]{34}") == 400
    assert compiles("[a-z]{35}") == 200
    assert target.metrics()["formwork_compile_worker_deaths_total"] >= 2


def start(folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "service.cli", "serve", str(MODEL), "--port", "0", *flags]
    with (folder / "log").open("wb") as sink:
        return subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, env=os.environ)


def test_26_a_server_that_is_still_loading_ends_when_told(tmp_path: Path) -> None:
    process = start(tmp_path)
    while b"application startup" not in (tmp_path / "log").read_bytes():
        assert process.poll() is None
        time.sleep(0.05)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    end = time.monotonic() + 10.0  # a killed process takes a moment to give its memory back
    while running_still := [pid for pid in children if is_alive(pid)]:
        assert time.monotonic() < end, running_still
        time.sleep(0.05)


def test_26_a_drain_finishes_what_runs_and_a_second_signal_what_does_not() -> None:
    """New requests get a 503 with Retry-After from an open port; the exit status is 0."""
    with running("--drain-s", "200", "--max-sequences", "16") as server, httpx.Client(
        base_url=server.url, timeout=120, headers={"connection": "close"}
    ) as client:  # fmt: skip
        short, long = {"max_tokens": 60}, {"max_tokens": 3800, "ignore_eos": True}
        told: dict[int, list[str]] = {}
        begun = threading.Barrier(5)

        def stream(number: int, fields: dict[str, Any]) -> None:
            body = {"messages": MESSAGES, "seed": number, "temperature": 1.5, "stream": True, **fields}
            with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=300) as response:
                lines = response.iter_lines()
                told[number] = [next(lines)]
                begun.wait(60)
                told[number] += lines

        threads = [threading.Thread(target=stream, args=(i, long if i == 3 else short)) for i in range(4)]
        for thread in threads:
            thread.start()
        begun.wait(60)
        server.process.send_signal(signal.SIGTERM)
        while client.get("/readyz").status_code == 200:
            time.sleep(0.02)
        refused = client.post("/v1/chat/completions", json={"messages": MESSAGES})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200
        for thread in threads[:3]:
            thread.join(120)
        assert all("data: [DONE]" in told[number] for number in range(3))
        assert threads[3].is_alive()
        server.process.send_signal(signal.SIGTERM)
        threads[3].join(30)
        events = [line for line in told[3] if line.startswith("data: ")]
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "unavailable"
        assert server.process.wait(30) == 0


def test_48_a_cache_of_kernels_that_another_process_has_filled_serves_the_next(tmp_path: Path) -> None:
    """Twice in one fresh folder, from nothing and from what the first start left: the second has crashed once."""
    asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 40, "response_format": FORMAT}
    said = []
    for _ in range(2):
        with running("--max-sequences", "4", NUMBA_CACHE_DIR=str(tmp_path)) as server:
            answer = httpx.post(f"{server.url}/v1/chat/completions", json=asked, timeout=300)
            assert answer.status_code == 200, answer.text
            said.append(answer.json()["choices"][0]["message"]["content"])
            assert "Traceback" not in server.log.read_text("utf-8", "replace")
    assert list(tmp_path.rglob("*.nbc"))
    assert said[0] == said[1]
