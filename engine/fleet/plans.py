"""Plans that a replica has been sent, so that each crosses the network once."""

from __future__ import annotations

from collections import OrderedDict

from engine.messages import Plan


class PlanShelf:
    """Bounded in bytes; the one not used for longest goes first, and its next request brings it again."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._bytes = 0

    def put(self, plan: Plan) -> None:
        if plan.fingerprint in self._plans:
            return
        self._plans[plan.fingerprint] = plan
        self._bytes += len(plan.data)
        while self._bytes > self._most and len(self._plans) > 1:
            _, gone = self._plans.popitem(last=False)
            self._bytes -= len(gone.data)

    def get(self, fingerprint: str) -> Plan | None:
        """The plan, if it is here."""
        plan = self._plans.get(fingerprint)
        if plan is not None:
            self._plans.move_to_end(fingerprint)
        return plan
