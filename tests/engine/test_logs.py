"""What the engine's process tells at its start."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_model_tells_nothing() -> None:
    """torchao is installed here: its import speaks of libraries for GPUs, and torch of torchao's enumerations."""
    done = subprocess.run([sys.executable, "-c", "import engine.model"], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
