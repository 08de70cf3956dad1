"""Asynchronous tests run on asyncio; tests from outside share one server process."""

from collections.abc import Iterator

import pytest

from tests.service.processes import Running, running


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """A server on the bundled model, for as long as the session lasts."""
    flags = ("--max-sequences", "16", "--response-store-bytes", "1000000")
    with running(*flags, FORMWORK_WATERMARK_KEYS="test:" + "5f" * 16) as started:
        yield started
