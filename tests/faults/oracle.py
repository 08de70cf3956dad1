"""What must hold whatever was done to a server: the common oracle.

Another tenant's stream is byte for byte that of a quiet run; requests, pages, descriptors and memory go back to where
they were; `/livez` answers; nothing went wrong that nobody caught. What may not enter: what is done to it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.service.processes import Running

MESSAGES: list[dict[str, str]] = [{"role": "user", "content": "Maria Silva is 34 years old and lives in Porto."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 60}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
FORMAT: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
_SETTLED_S = 30.0
_MEMORY = 300 << 20
_UNCAUGHT = ("Exception in ASGI application", "never retrieved", "the supervisor failed", "Fatal Python error")


def wire(fields: dict[str, Any]) -> dict[str, Any]:
    """A chat request's body."""
    return {"messages": MESSAGES, "max_tokens": 32, **fields}


@dataclass(frozen=True)
class Target:
    """A server under attack by one tenant, while the other one is at work."""

    server: Running
    attacker: str  # keys
    bystander: str
    operator: str
    quiet: str = ""  # what the bystander's stream says undisturbed

    def client(self, key: str | None = None, timeout: float = 60.0) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.attacker}"}
        return httpx.Client(base_url=self.server.url, headers=headers, timeout=timeout)

    def post(self, path: str, body: Any, *, key: str | None = None) -> httpx.Response:
        """`body` is JSON, or bytes to send as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with self.client(key) as client:
            return client.post(path, content=content, headers={"content-type": "application/json"})

    def chat(self, *, key: str | None = None, **fields: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", wire(fields), key=key)

    def generate(self, **parameters: Any) -> httpx.Response:
        return self.post("/generate", {"inputs": "Hello", "parameters": {"max_new_tokens": 16, **parameters}})

    def stream(self, *, key: str | None = None, **fields: Any) -> list[Any]:
        """The events of a chat stream, `[DONE]` as None."""
        with self.client(key) as client, client.stream(
            "POST", "/v1/chat/completions", json=wire({**fields, "stream": True})
        ) as response:  # fmt: skip
            assert response.status_code == 200, response.read()
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
        return [None if line == "[DONE]" else json.loads(line) for line in lines]

    def work(self) -> str:
        """The bystander's stream; the same text each time."""
        events = self.stream(
            key=self.bystander, response_format=FORMAT, temperature=1.0, seed=7, max_tokens=80, logprobs=False
        )
        assert events[-1] is None, events[-2:]
        return text_of(events)

    def metrics(self) -> dict[str, float]:
        with self.client(self.operator) as client:
            text = client.get("/metrics").text
        return {
            name: float(value) for name, value in (each.rsplit(" ", 1) for each in text.splitlines() if each[:1] != "#")
        }

    def engine_pid(self) -> int:
        return self.children("engine")[0]

    def children(self, module: str) -> list[int]:
        """Living child processes that run `python -m module`."""
        found = family(self.server.process.pid)[1:]
        return [pid for pid in found if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]

    def log(self) -> str:
        return self.server.log.read_text("utf-8", "replace")


def family(pid: int) -> list[int]:
    """A process and its children."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for each in listed for child in each.read_text().split())]


def text_of(events: list[Any]) -> str:
    """What the chunks of a chat stream say, choice by choice: in which order choices take turns is chance."""
    said: dict[int, str] = {}
    for event in events:
        for choice in (event or {}).get("choices", ()):
            index = choice["index"]
            said[index] = said.get(index, "") + (choice["delta"].get("content") or "")
    return "\n".join(said[index] for index in sorted(said))


@dataclass
class Bystander:
    """The other tenant: streams all the while, and keeps what it was told."""

    target: Target
    said: list[str] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            while True:  # once at least
                self.said.append(self.target.work())
                if self._ended.wait(0.2):
                    return
        except Exception as error:  # told by `leave`
            self.error = error

    def leave(self) -> None:
        self._ended.set()
        self._thread.join(60)
        assert self.error is None, self.error
        assert set(self.said) == {self.target.quiet}


@contextmanager
def unharmed(target: Target) -> Iterator[None]:
    """Whatever is done inside, the oracle holds after it."""
    logged = len(target.log())
    memory, descriptors = _memory(target), _descriptors(target)
    bystander = Bystander(target)
    try:
        yield
    finally:
        bystander.leave()
    with target.client() as client:
        assert client.get("/livez").status_code == 200
    _settle(target, descriptors)
    assert _memory(target) - memory < _MEMORY
    uncaught = [sign for sign in _UNCAUGHT if sign in target.log()[logged:]]
    assert not uncaught, target.log()[logged:][-4000:]


def _settle(target: Target, descriptors: int) -> None:
    """Waits until nobody is inside, no page is held and no descriptor is left open."""
    end = time.monotonic() + _SETTLED_S
    while True:
        told = target.metrics()
        left = {
            "requests": told["formwork_requests_inside"],
            "pages": told["formwork_pages_used"],
            "waiting": told["tgi_queue_size"],
            "descriptors": max(0, _descriptors(target) - descriptors - 3),  # idle connections come and go
        }
        if not any(left.values()):
            return
        assert time.monotonic() < end, left
        time.sleep(0.2)


def _memory(target: Target) -> int:
    pages = Path(f"/proc/{target.server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _descriptors(target: Target) -> int:
    return len(list(Path(f"/proc/{target.server.process.pid}/fd").iterdir()))
