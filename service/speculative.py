"""vLLM's `--speculative-config`, read into our own settings.

What it is for: one JSON object that people bring along. What may not enter: what the settings do. A key or a method
that has no counterpart here is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_METHODS = {"ngram": "grammar,ngram", "medusa": "grammar,ngram,heads", "draft_model": "grammar,ngram"}
_MODEL = {"medusa": "heads", "draft_model": "draft_model"}
_NEEDLESS = {
    "prompt_lookup_max": "the longest match is found whatever its length",
    "prompt_lookup_min": "how long a match must be is learned from what came of shorter ones",
    "disable_by_batch_size": "how many guesses a batch has room for is measured",
}


def settings_of(text: str) -> dict[str, Any]:
    """Settings by our names. Raises ValueError that names what is wrong."""
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(told, Mapping):
        raise ValueError("a JSON object is expected")
    method = told.get("method", "draft_model" if "model" in told else None)
    if method not in _METHODS:
        raise ValueError(f"method {method!r} is not supported; use {', '.join(_METHODS)}")
    for name in told:
        if name in _NEEDLESS:
            raise ValueError(f"{name} has no counterpart: {_NEEDLESS[name]}; leave it out")
        if name not in {"method", "num_speculative_tokens"} and not (name == "model" and method in _MODEL):
            raise ValueError(f"{name} is not supported")
    found: dict[str, Any] = {"speculate_with": _METHODS[method]}
    if "model" in told:
        found[_MODEL[method]] = told["model"]
    if "num_speculative_tokens" in told:
        found["speculate"] = told["num_speculative_tokens"]
    return found
