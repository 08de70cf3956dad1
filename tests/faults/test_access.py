"""Rows 35, 36 (from outside), 37 to 39: who gets in, what can be reached, and what one tenant learns of another."""

from __future__ import annotations

import os
import pickle
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from service.app import create_app
from service.settings import Settings
from tests.faults.conftest import write_keys
from tests.faults.oracle import Target, family
from tests.service.houses import saying, served

_HEALTH = ("/livez", "/readyz", "/startupz", "/health", "/ping", "/", "/v2/health/live", "/v2/health/ready")
_DOCUMENTATION = ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/playground")
OPEN = {("GET", path) for path in (*_HEALTH, *_DOCUMENTATION)}
slow = pytest.mark.slow


def routes(router: Any) -> set[tuple[str, str]]:
    """Every method and path that is answered, documented or not, in routers included by others too."""
    found = set()
    for route in router.routes:
        if (inner := getattr(route, "original_router", None)) is not None:
            found |= routes(inner)
            continue
        assert isinstance(route, APIRoute | Route), route  # mounts and sockets would need their own walk
        found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    return found


def scope_of(path: str) -> str:
    if path in {"/metrics", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"}:
        return "admin"
    return "detect" if path == "/v1/watermark/detect" else "generate"


@pytest.mark.anyio
async def test_39_every_route_asks_for_a_key_of_its_scope(tmp_path: Path) -> None:
    """The table of routes is walked, so that a route which forgets to ask cannot be added unnoticed."""
    keys = write_keys(tmp_path)
    roles = {"generate": keys["bystander"], "detect": keys["reader"], "admin": keys["operator"]}
    async with served(tmp_path, saying("Hi"), api_keys_file=str(tmp_path / "keys.toml")) as (client, _):
        table = routes(client._transport.app)  # type: ignore[attr-defined]
        assert len(table) > 30
        for method, path in sorted(table):
            where = re.sub(r"\{.*?\}", "x", path)

            async def status(key: str | None, method: str = method, where: str = where) -> int:
                headers = {"authorization": f"Bearer {key}"} if key else {}
                body: dict[str, Any] | None = {} if method == "POST" else None
                return (await client.request(method, where, json=body, headers=headers)).status_code

            if (method, path) in OPEN:
                assert await status(None) == 200, path
                continue
            assert await status(None) == 401, (method, path)
            assert await status("fw-wrong") == 401, (method, path)
            for scope, key in roles.items():
                got = await status(key)
                assert (got in {401, 403}) == (scope != scope_of(path)), (method, path, scope, got)


def test_39_metrics_are_elsewhere_when_asked_for() -> None:
    async def start(_: Any) -> Any: ...

    assert ("GET", "/metrics") in routes(create_app(Settings(), start))
    assert ("GET", "/metrics") not in routes(create_app(Settings(metrics_port=9000), start))


@slow
@pytest.mark.timeout(600)
def test_38_a_key_is_taken_from_the_header_alone_and_never_logged(target: Target) -> None:
    wrong = ["x", target.attacker[:-1], target.attacker + "x", "x" * 10_000, target.attacker.upper(), "é" * 40]
    for key in wrong:
        header = f"Bearer {key}".encode()
        headers = {b"authorization": header}
        response = httpx.post(f"{target.server.url}/v1/chat/completions", json={}, headers=headers, timeout=30)
        assert response.status_code == 401, key[:20]
        assert response.headers["www-authenticate"] == "Bearer"
    for where in (f"/v1/models?api_key={target.attacker}", f"/v1/models?key={target.attacker}"):
        assert httpx.get(target.server.url + where).status_code == 401
    log = target.log()
    assert not any(key in log for key in (target.attacker, target.bystander, target.operator))


@slow
@pytest.mark.timeout(600)
def test_35_nothing_but_the_api_listens(target: Target) -> None:
    inodes = set()
    for pid in family(target.server.process.pid):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp", "/proc/net/udp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            is_listening = fields[3] == ("0A" if "tcp" in table else "07")
            if is_listening and fields[9] in inodes:
                listening.append(int(fields[1].rpartition(":")[2], 16))
    assert listening == [httpx.URL(target.server.url).port]


@slow
@pytest.mark.timeout(600)
def test_36_junk_on_the_internal_socket_is_dropped(target: Target) -> None:
    """The socket lies where only this user may enter; even from there junk and pickles change nothing."""

    class Evil:
        def __reduce__(self) -> Any:
            return (os.system, ("touch /tmp/formwork-was-here",))

    paths = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if "/formwork-" in line]
    folders = {Path(path).parent for path in paths if Path(path).exists()}
    assert folders
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    for path in {path for path in paths if Path(path).exists()}:
        for junk in (os.urandom(4096), pickle.dumps(Evil()), b"\xff" + b"\0" * 8 + b"\x7f" + os.urandom(9999)):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(junk)
    assert target.work() == target.quiet
    assert not Path("/tmp/formwork-was-here").exists()


@slow
@pytest.mark.timeout(600)
def test_37_one_tenants_prompts_are_not_in_anothers_cache(target: Target) -> None:
    """Whether a prefix was found is told in `usage`: deterministic, where a timing would only be likely."""
    asked = {"messages": [{"role": "user", "content": "a secret prefix " * 40}], "max_tokens": 2}

    def cached(key: str) -> int:
        usage = target.chat(key=key, **asked).json()["usage"]
        found: int = usage["prompt_tokens_details"]["cached_tokens"]
        return found

    assert cached(target.attacker) == 0
    assert cached(target.attacker) > 0
    assert cached(target.bystander) == 0
