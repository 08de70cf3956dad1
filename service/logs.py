"""Log lines for people, or JSON objects for machines.

What it is for: `set_up(level, form)`, called once by the server process. What may not enter: what is logged.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Every logger of this process writes to stderr in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """One object a line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "target": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)
