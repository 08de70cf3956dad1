"""What the engine's process tells at its start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["engine.model", "benchmarks.engine"])
def test_importing_the_model_tells_nothing(module: str) -> None:
    """torchao is installed here: its import speaks of libraries for GPUs, and torch of torchao's enumerations."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
