"""Reads the Dockerfile into instructions, so that tests can carry them out without a Docker engine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str

    @property
    def exec_form(self) -> list[str]:
        """The argument vector of an instruction in exec form, after a HEALTHCHECK's options."""
        return [str(word) for word in json.loads(self.text[self.text.index("[") :])]


def instructions(path: Path = ROOT / "Dockerfile") -> list[Instruction]:
    """Comments dropped, continued lines joined."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name.upper(), text) for name, text in found]
