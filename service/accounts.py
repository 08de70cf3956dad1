"""What a finished answer cost: TGI's headers, on every answer that comes in one piece, and the metrics of all.

What it is for: `cost_headers`, `count`. What may not enter: bodies.
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


def count(house: House, generation: Generation) -> None:
    """Tells the metrics about a finished request."""
    summary, metrics, prepared = generation.summary, house.metrics, generation.prepared
    metrics.successes.add()
    metrics.input_length.observe(summary.prompt_tokens)
    metrics.generated.observe(summary.completion_tokens)
    metrics.max_new_tokens.observe(prepared.sampling.max_tokens)
    if summary.first_token_s is not None:
        metrics.first_token.observe(summary.first_token_s)
    for finish in summary.finishes.values():
        metrics.queue.observe(finish.queue_s)
        metrics.inference.observe(finish.prefill_s + finish.decode_s)
        metrics.forced.add(finish.forced_tokens)
        metrics.skipped.observe(sum(each.accepted for each in finish.guessed))
        for each in finish.guessed:
            metrics.guesses.add(each.proposed, proposer=each.proposer)
            metrics.accepted.add(each.accepted, proposer=each.proposer)
        metrics.closed.add(finish.closed_by_budget)
        metrics.marked.add(finish.mark.eligible if finish.mark.applied else 0)
        metrics.constrained.add(prepared.compiled is not None)
    house.tracing.generated(
        {
            "gen_ai.response.id": prepared.id,
            "gen_ai.usage.input_tokens": summary.prompt_tokens,
            "gen_ai.usage.output_tokens": summary.completion_tokens,
            "formwork.constrained": prepared.compiled is not None,
        },
        [(finish.queue_s, finish.prefill_s, finish.decode_s) for finish in summary.finishes.values()],
    )
    decode_s = max((finish.decode_s for finish in summary.finishes.values()), default=0.0)
    house.pace.note(summary.completion_tokens // max(1, len(summary.finishes)), decode_s)
    if summary.completion_tokens:
        metrics.per_token.observe(decode_s / summary.completion_tokens)
