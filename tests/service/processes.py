"""A real server process on the bundled model.

What it is for: `running(...)` starts `formwork serve` on a free port, waits until it serves, and stops it by its
pid. What may not enter: assertions.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "formwork-mini"
_START_S = 540.0
_STOP_S = 60.0
_SERVES = re.compile(r"serves .* on (http://127\.0\.0\.1:\d+|unix:.+?)[;\n]")


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running(*flags: str, **environment: str) -> Iterator[Running]:
    """A server that is ready; ended by SIGTERM, and by SIGKILL if that does not help."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "service.cli", "serve", str(MODEL), "--port", "0", *flags]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, env={**os.environ, **environment}
            )
        try:
            yield Running(_address(process, log), process, log)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process by its pid."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if found := _SERVES.search(log.read_text("utf-8", "replace")):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"the server did not start:\n{log.read_text('utf-8', 'replace')}")
