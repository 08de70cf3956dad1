"""What the Dockerfile does, done: every RUN in a clean virtual environment, then its entry point and health check."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.dockerfile import ROOT, instructions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STARTS_WITHIN_S = 240


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /app as a folder, with its own virtual environment in place of the base image's Python."""
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    for instruction in instructions():
        if instruction.name == "COPY":
            *sources, _ = instruction.text.split()
            for source in sources:
                _copy(ROOT / source, app / source)
    subprocess.run([sys.executable, "-m", "venv", app / ".venv"], check=True)
    for instruction in instructions():
        if instruction.name == "RUN" and "useradd" not in instruction.text:
            subprocess.run(["/bin/sh", "-ec", instruction.text], cwd=app, env=_environment(app), check=True)
    return app


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "checkpoints", "*.nbi", "*.nbc"))
    else:
        shutil.copy(source, target)


def _environment(app: Path, **more: str) -> dict[str, str]:
    """What the image sets, with its own Python first and nothing of this test's environment."""
    kept = {name: os.environ[name] for name in ("HOME", "PIP_CONFIG_FILE", "LANG") if name in os.environ}
    return {**kept, "PATH": f"{app}/.venv/bin:/usr/bin:/bin", "NUMBA_CACHE_DIR": f"{app}/numba", "EXTRAS": "", **more}


@pytest.fixture(scope="module")
def running(image: Path) -> Iterator[dict[str, str]]:
    """The entry point with the default command, on a free port; yields the environment for the health check."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = _environment(image, FORMWORK_HOST="127.0.0.1", FORMWORK_PORT=str(port))
    words = [w for name in ("ENTRYPOINT", "CMD") for i in instructions() if i.name == name for w in i.exec_form]
    with (image / "serve.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=image, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_healthy(process, image, environment)
            yield environment
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _health(image: Path, environment: dict[str, str]) -> int:
    check = next(i for i in instructions() if i.name == "HEALTHCHECK")
    return subprocess.run(check.exec_form, cwd=image, env=environment, check=False, capture_output=True).returncode


def _wait_until_healthy(process: subprocess.Popen[bytes], image: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while _health(image, environment) != 0:
        log = (image / "serve.log").read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"the service ended:\n{log}"
        assert time.monotonic() < deadline, f"not healthy within {STARTS_WITHIN_S} s:\n{log}"
        time.sleep(1)


def test_the_health_check_says_no_where_nothing_runs(image: Path) -> None:
    """Otherwise the next test would prove nothing."""
    assert _health(image, _environment(image, FORMWORK_HOST="127.0.0.1", FORMWORK_PORT="9")) != 0


def test_the_container_becomes_healthy(image: Path, running: dict[str, str]) -> None:
    """The entry point starts the service on the bundled model and the health check answers."""
    assert _health(image, running) == 0
