"""One server for the session, with small limits and fault points that only the requests which name them meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.access import entry_of, make_key
from tests.faults.oracle import Target, unharmed
from tests.service.processes import running

# Each request names its fault by its seed.
NAN, INF, NO_TOKEN, MASK, DRAW, MARK = 6601, 6602, 6603, 6604, 6605, 6606
FAULTS = (
    f"logits:nan:seed={NAN},nth=4; logits:inf:seed={INF},nth=4; mask:empty:seed={NO_TOKEN}; mask:raise:seed={MASK};"
    f"draw:raise:seed={DRAW},nth=4; mark:raise:seed={MARK}"
)
PLACES = 24


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def write_keys(folder: Path) -> dict[str, str]:
    """A file of keys for an attacker, a bystander, an operator and a reader of watermarks."""
    scopes = {
        "attacker": ["generate", "detect"],
        "bystander": ["generate"],
        "operator": ["admin"],
        "reader": ["detect"],
    }
    keys = {name: make_key() for name in scopes}
    lines = [
        f'[[key]]\nname = "{name}"\nsha256 = "{entry_of(key).sha256}"\nscopes = {scopes[name]}\n'
        for name, key in keys.items()
    ]
    (folder / "keys.toml").write_text("\n".join(lines))
    return keys


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server, and what the bystander's stream says while nothing is wrong."""
    folder = tmp_path_factory.mktemp("faults")
    keys = write_keys(folder)
    flags = {
        "api-keys-file": folder / "keys.toml", "max-sequences": 16, "max-concurrent-requests": PLACES,
        "body-timeout-s": 2, "head-timeout-s": 2, "send-timeout-s": 3, "grammar-cache-bytes": 8_000_000,
        "compile-timeout-s": 6, "log-format": "json", "faults": FAULTS,
    }  # fmt: skip
    arguments = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    with running(*arguments, "--allow-faults", "--access-log") as started:
        target = Target(started, keys["attacker"], keys["bystander"], keys["operator"])
        yield replace(target, quiet=target.work())


@pytest.fixture
def target(server: Target) -> Iterator[Target]:
    """The server, held to the oracle while a test attacks it."""
    with unharmed(server):
        yield server
