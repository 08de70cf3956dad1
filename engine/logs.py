"""Log records as JSON objects, one a line, in whichever process.

What it is for: the engine process and the service write the same form. What may not enter: what is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class JsonLines(logging.Formatter):
    """One object a line, tracebacks included; a record's `facts` become its fields."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "target": record.name,
            "message": record.getMessage(),
            **self.facts(record),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)

    def facts(self, record: logging.LogRecord) -> dict[str, Any]:
        """What else is known of the record."""
        found: dict[str, Any] = getattr(record, "facts", {})
        return found


def set_up_engine(*, as_json: bool) -> None:
    """The engine process's logs go to stderr, where the service's go."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def hush_imports() -> None:
    """Drops what torchao's import tells on every machine without a GPU; to be called before transformers is imported.

    transformers imports torchao wherever it is installed. Its libraries for a GPU do not load on other machines, and it
    registers enumerations in a way that torch will not need any more: neither says anything of this installation. Where
    there is a CUDA driver, a library that does not load is told as ever.
    """
    if not Path("/proc/driver/nvidia").exists():
        logging.getLogger("torchao").addFilter(lambda record: not record.getMessage().startswith("Failed to load "))
    pytree = logging.getLogger("torch.utils._pytree")
    pytree.addFilter(lambda record: "register_constant() on Enum" not in record.getMessage())
