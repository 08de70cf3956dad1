"""Ray Serve's question "how many replicas?", answered by `engine.fleet.scaling`.

What it is for: a policy class in the form that Serve's controller makes and calls. What may not enter: the rules.
"""

from __future__ import annotations

import time
from typing import Any

from engine.fleet.scaling import ScalingRules, ScalingState, Signal, decide

_FIELDS = ("queued_tokens", "page_share", "queue_s", "busy", "prefill_rate")


class Autoscaling:
    """Made once by the controller with the numbers of `ScalingRules` that differ from its defaults."""

    def __init__(self, **rules: Any) -> None:
        self.rules = ScalingRules(**rules)
        self._state = ScalingState()

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """`context` is Serve's AutoscalingContext; what is returned beside the number is kept by Serve, and unused."""
        signals = [
            Signal(**{name: _latest(context.raw_metrics.get(name, {}).get(replica)) for name in _FIELDS})
            for replica in context.running_replicas
        ]
        self._state, wanted = decide(self._state, context.target_num_replicas, signals, time.monotonic(), self.rules)
        return wanted, {}


def _latest(series: Any) -> float:
    """The last value of one of Serve's time series; 0 before the first."""
    return float(series[-1].value) if series else 0.0
