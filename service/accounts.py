"""What a finished answer cost, as headers: TGI's names, on every answer that comes in one piece.

What it is for: `cost_headers`. What may not enter: bodies, metrics.
"""

from __future__ import annotations

import time

from service.generation import Generation
from service.house import House


def compute_type(house: House) -> str:
    """As TGI says it, for example `gpu+optimized`."""
    device = house.engine.info.device.partition(":")[0]
    return house.settings.compute_type or f"{'gpu' if device == 'cuda' else device}+optimized"


def cost_headers(house: House, generation: Generation, arrived: float) -> dict[str, str]:
    """Times in whole milliseconds, `x-compute-time` in seconds; of several choices the slowest counts."""
    prepared, summary = generation.prepared, generation.summary
    finishes = summary.finishes.values()
    total_s = time.monotonic() - arrived
    queue_s = max((finish.queue_s for finish in finishes), default=0.0)
    inference_s = max((finish.prefill_s + finish.decode_s for finish in finishes), default=0.0)
    return {
        "x-compute-type": compute_type(house),
        "x-compute-time": f"{total_s:.3f}",
        "x-compute-characters": str(prepared.wish.characters),
        "x-total-time": _ms(total_s),
        "x-validation-time": _ms(prepared.ready - arrived),
        "x-queue-time": _ms(queue_s),
        "x-inference-time": _ms(inference_s),
        "x-time-per-token": _ms(inference_s / max(1, summary.completion_tokens)),
        "x-prompt-tokens": str(summary.prompt_tokens),
        "x-generated-tokens": str(summary.completion_tokens),
    }


def _ms(seconds: float) -> str:
    return str(max(0, round(1e3 * seconds)))
