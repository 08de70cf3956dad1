"""What was chosen at start, and why: the lines that the server prints before it says that it serves.

What it is for: `summary(house)`. What may not enter: choosing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from service.house import House

_SECRETS = frozenset({"api_keys", "watermark_keys"})


def summary(house: House, idle: Mapping[str, str]) -> Iterator[str]:
    """One line a choice; `idle` are flags and variables that were given and change nothing, and why."""
    settings, info = house.settings, house.engine.info
    why = settings.sources
    tokens = info.pages * info.page_size

    def asked(*names: str, otherwise: str) -> str:
        return next((f"from {why[name]}" for name in names if name in why), otherwise)

    yield f"model       {settings.model}, {info.model_type}, {info.parameters:,} parameters"
    yield f"device      {info.device} ({asked('device', otherwise='found')})"
    yield f"dtype       {info.dtype} ({asked('dtype', otherwise='the default for this device')})"
    if info.quantize:
        yield f"weights     {info.quantize}, {info.weight_bytes:,} bytes ({asked('quantize', otherwise='as stored')})"
    yield f"context     {house.context_length} tokens ({asked('max_model_len', otherwise='what model and cache hold')})"
    cache = asked("cache_tokens", "cache_bytes", "memory_fraction", otherwise="measured from free memory")
    yield f"cache       {info.pages} pages of {info.page_size} tokens = {tokens:,} tokens ({cache})"
    batch = f"{settings.max_sequences} sequences and {settings.max_batch_tokens} tokens a step"
    yield f"batch       {batch}; {settings.max_concurrent_requests} requests in the house"
    yield f"tool calls  {house.call_form.name} ({asked('tool_call_parser', otherwise='what the chat template shows')})"
    thought = house.thought_form.name if house.thought_form else "none"
    yield f"reasoning   {thought} ({asked('reasoning_parser', otherwise='what the chat template shows')})"
    yield f"watermark   {settings.watermark} ({asked('watermark', otherwise='default')})"
    yield f"keys        {len(house.keys) or 'none: everyone may ask'}"
    for name, source in sorted(why.items()):
        value = "…" if name in _SECRETS else getattr(settings, name)
        yield f"set         {name} = {value} from {source}"
    for name, reason in idle.items():
        yield f"idle        {name} changes nothing: {reason}"
