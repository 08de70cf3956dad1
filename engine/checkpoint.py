"""Where a model's files are: a local folder, or a hub id's snapshot.

What it is for: the API process (tokenizer, chat template) and the engine (weights) must read the same files. What may
not enter: loading them.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub


def locate(model: str, revision: str | None = None, *, code: bool = False) -> Path:
    """The folder of a model; a hub id is downloaded (safetensors, JSON, with `code` Python) unless it is cached."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model"]
    patterns += ["*.py"] if code else []
    return Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=patterns))
