"""The books of tenants that wait: kept for those who are there, and for nobody else."""

from __future__ import annotations

from engine.queue import WaitingQueue
from engine.sequence import Sequence


def sequence(tenant: str, arrival: int) -> Sequence:
    return Sequence(f"{tenant}{arrival}", tenant, 0, arrival, [1], 1, -1, tenant)


def test_a_tenant_that_has_left_begins_anew() -> None:
    """Else the books of all who ever came would pile up, and one who comes back would pay for last week."""
    queue = WaitingQueue(most=100)
    queue.charge("old", 1_000_000)
    queue.charge("runs", 500_000)
    queue.forget_idle({"runs"})
    for arrival, tenant in enumerate(("runs", "old")):
        queue.add(sequence(tenant, arrival))
    head = queue.peek()
    assert head is not None
    assert head.tenant == "runs"  # "old" starts where those who wait are, and came later
    queue.remove(head)
    queue.charge("runs", 1)
    queue.add(sequence("runs", 2))
    following = queue.peek()
    assert following is not None
    assert following.tenant == "old"
