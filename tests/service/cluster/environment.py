"""An interpreter that has Ray: this one, if the extra is installed, else that of an environment made for the tests.

What it is for: tests that need Ray never pass by being skipped. The environment sees this one's packages too, and is
kept for the next run. What may not enter: assertions about Formwork.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any


def python_with_ray(cache: Any) -> Path:
    """`cache` is pytest's."""
    if importlib.util.find_spec("ray") is not None:
        return Path(sys.executable)
    folder = Path(cache.mkdir("environments")) / "ray"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "ray[serve]>=2.50"]
        installed = subprocess.run(command, check=False, capture_output=True, text=True)
        assert installed.returncode == 0, installed.stderr
        (folder / "ready").touch()
    return python
