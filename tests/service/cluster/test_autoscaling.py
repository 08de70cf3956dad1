"""Serve's question in Serve's words, the answer in ours."""

from __future__ import annotations

from types import SimpleNamespace

from service.cluster.autoscaling import Autoscaling


def context(queued: list[float], replicas: int) -> SimpleNamespace:
    names = [f"r{index}" for index in range(len(queued))]
    series = {
        name: [SimpleNamespace(value=0.0), SimpleNamespace(value=value)]
        for name, value in zip(names, queued, strict=True)
    }
    rate = {name: [SimpleNamespace(value=100.0)] for name in names}
    return SimpleNamespace(
        running_replicas=names,
        target_num_replicas=replicas,
        raw_metrics={"queued_tokens": series, "prefill_rate": rate},
    )


def test_the_latest_numbers_of_running_replicas_decide() -> None:
    policy = Autoscaling(least=1, most=8, rise_s=0.0)
    assert policy(context([5000.0, 5000.0], 2)) == (4, {})


def test_its_state_lasts_from_call_to_call() -> None:
    policy = Autoscaling(least=1, most=8, fall_s=0.0)
    assert policy(context([0.0] * 4, 4)) == (3, {})


def test_replicas_that_have_said_nothing_yet_change_nothing() -> None:
    policy = Autoscaling(least=1, most=8, rise_s=0.0, fall_s=1e9)
    silent = SimpleNamespace(running_replicas=["a", "b"], target_num_replicas=2, raw_metrics={})
    assert policy(silent) == (2, {})
