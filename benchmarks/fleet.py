"""How does it grow? Routing and autoscaling on thousands of simulated replicas, by the very code that the server runs.

    formwork bench fleet                                # routing: 2,000 replicas, four policies, one trace
    formwork bench fleet --replicas 64 --load 0.9
    formwork bench fleet --autoscale                    # one wave of load: who keeps the promise, at what cost
    formwork bench fleet --autoscale --replicas 8 --hours 0.4

Replicas are rates and lengths (`benchmarks/fleet_model.py`); requests come from a seeded trace of applications with
system prompts, schemas and conversations of several turns. `engine.fleet.routing.Router` and
`engine.fleet.scaling.decide` are the server's. Peers: `two choices` is Ray Serve's default (the shorter queue of two,
here known exactly and at once); `hashing` sends each prompt's beginning to its home on a ring, whatever the load;
`turns` takes one after the other. In `--autoscale` the peer is Serve's default policy: ongoing requests a replica.
`load` is what arrives, as a share of what the fleet computes without any cache. Columns: time to the first token; time
for each further one; prompt tokens found in a cache; grammars whose tables were there; the busiest replica over the
mean; microseconds of a decision.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from benchmarks.fleet_model import Machine, Replica, Request, Tally, Traffic, trace
from engine.fleet.routing import Placed, Router, RoutingRules
from engine.fleet.scaling import ScalingRules, ScalingState, Signal, decide

_REPORT_S = 0.25
_PULSE_S = 0.02
_SCALE_S = 1.0
_PROMISE_S = 2.0  # to the first token


class Policy(Protocol):
    """Who takes a request. `replicas` is the fleet as it is; only those that ask may look at it."""

    def join(self, name: str) -> None: ...

    def leave(self, name: str) -> None: ...

    def choose(self, request: Request, replicas: dict[str, Replica]) -> str: ...

    def report(self, replicas: dict[str, Replica]) -> None:
        """Each replica says how it is, and what it has met."""
        ...

    def pulse(self, replicas: Sequence[Replica]) -> None:
        """Those whose load has changed say what is there."""
        ...

    def note(self, request: Request, *, ended: bool) -> None:
        """Its first token has come, or its last."""
        ...


class Named:
    """Names in a list, for policies that draw from it."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def join(self, name: str) -> None:
        self._names.append(name)

    def leave(self, name: str) -> None:
        self._names.remove(name)

    def report(self, replicas: dict[str, Replica]) -> None:
        pass

    def pulse(self, replicas: Sequence[Replica]) -> None:
        pass

    def note(self, request: Request, *, ended: bool) -> None:
        pass


class Turns(Named):
    _next = 0

    def choose(self, _request: Request, _replicas: dict[str, Replica]) -> str:
        self._next += 1
        return self._names[self._next % len(self._names)]


class TwoChoices(Named):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._noise = random.Random(seed)

    def choose(self, _request: Request, replicas: dict[str, Replica]) -> str:
        return min(self._noise.choices(self._names, k=2), key=lambda name: replicas[name].sequences)


class Routers:
    """Several servers that do not talk to one another, each with a router of its own; requests come to any."""

    def __init__(self, servers: int, rules: RoutingRules) -> None:
        self._routers = [Router(rules) for _ in range(servers)]
        self._placed: dict[int, Placed] = {}
        self._met: dict[str, list[Request]] = {}  # by replica, since the last report

    def join(self, name: str) -> None:
        for router in self._routers:
            router.join(name)

    def leave(self, name: str) -> None:
        for router in self._routers:
            router.leave(name)

    def choose(self, request: Request, _replicas: dict[str, Replica]) -> str:
        router, wanted = self._routers[request.name % len(self._routers)], request.wanted()
        name = router.choose(wanted)
        assert name is not None, "the fleet is never empty"
        self._placed[request.name] = router.begin(name, wanted)
        self._met.setdefault(name, []).append(request)
        return name

    def pulse(self, replicas: Sequence[Replica]) -> None:
        if len(self._routers) == 1:
            return
        for each in replicas:
            load = each.load()
            for router in self._routers:
                if each.name in router:
                    router.report(each.name, load)

    def note(self, request: Request, *, ended: bool) -> None:
        if ended:
            self._placed.pop(request.name).ended()
        else:
            self._placed[request.name].computed()

    def report(self, replicas: dict[str, Replica]) -> None:
        for name, each in replicas.items():
            load, met = each.load(), self._met.pop(name, [])
            blocks = list(dict.fromkeys(block for request in met for block in request.blocks))
            grammars = list({request.grammar for request in met if request.grammar is not None})
            for router in self._routers:
                if name in router:
                    router.report(name, load)
                    router.learn(name, blocks, grammars)


def hashing() -> Routers:
    """A ring without a bound and without weights: the router with everything but home priced at nothing."""
    return Routers(1, RoutingRules(seat=0.0, grammar=0.0, slack=1e9, full=2.0, holders=1, remembered=1, candidates=1))


class Scaler(Protocol):
    """How many replicas there should be."""

    def wanted(self, now: float, replicas: Sequence[Replica], asked: int) -> int: ...


@dataclass
class ByPressure:
    """The server's own rules."""

    rules: ScalingRules
    machine: Machine
    state: ScalingState = field(default_factory=ScalingState)
    computed: dict[str, float] = field(default_factory=dict)

    def wanted(self, now: float, replicas: Sequence[Replica], asked: int) -> int:
        rate = self.machine.chunk / (self.machine.step_s + self.machine.chunk * self.machine.token_s)
        signals = []
        for each in replicas:
            load = each.load()
            known = self.computed.get(each.name, each.computed)
            self.computed[each.name] = each.computed
            busy = min(1.0, (each.computed - known) / _SCALE_S / rate)
            signals.append(Signal(float(load.queued_tokens), load.page_share, each.queue_s(), busy, rate))
        self.state, wanted = decide(self.state, asked, signals, now, self.rules)
        return wanted


@dataclass
class ByRequests:
    """Serve's default: so many ongoing requests a replica, averaged over half a minute, with its delays."""

    target: float
    least: int
    most: int
    up_s: float = 30.0
    down_s: float = 600.0
    seen: list[tuple[float, float]] = field(default_factory=list)
    above: float | None = None
    below: float | None = None

    def wanted(self, now: float, replicas: Sequence[Replica], asked: int) -> int:
        self.seen = [(at, count) for at, count in self.seen if at > now - 30.0]
        self.seen.append((now, float(sum(each.sequences for each in replicas))))
        mean = sum(count for _, count in self.seen) / len(self.seen)
        desired = min(self.most, max(self.least, int(np.ceil(mean / self.target))))
        self.above = (self.above if self.above is not None else now) if desired > asked else None
        self.below = (self.below if self.below is not None else now) if desired < asked else None
        if self.above is not None and now - self.above >= self.up_s:
            self.above = None
            return desired
        if self.below is not None and now - self.below >= self.down_s:
            self.below = None
            return desired
        return asked


@dataclass
class Outcome:
    tally: Tally
    decision_us: float
    imbalance: float
    replica_s: float = 0.0
    sizes: list[int] = field(default_factory=list)


class Simulation:
    """Events in order of time: requests, what happens in replicas, reports, decisions on their number."""

    def __init__(self, machine: Machine, policy: Policy, block: int, scaler: Scaler | None = None) -> None:
        self._machine, self._policy, self._block, self._scaler = machine, policy, block, scaler
        self._replicas: dict[str, Replica] = {}
        self._leaving: dict[str, Replica] = {}
        self._events: list[tuple[float, int, str]] = []  # time, version, replica
        self._starting: list[float] = []
        self._changed: set[str] = set()
        self._count = 0
        self.tally = Tally()

    def run(self, requests: Iterator[Request], replicas: int) -> Outcome:
        for _ in range(replicas):
            self._join(0.0)
        outcome, spent, decisions, ticks, now = Outcome(self.tally, 0.0, 0.0), 0.0, 0, 0, 0.0
        asked, report_at, pulse_at, scale_at, size_s = replicas, 0.0, 0.0, 0.0, 0.0
        for request in requests:
            while True:
                due = min(report_at, pulse_at, scale_at if self._scaler else float("inf"), *self._starting[:1])
                self._until(min(due, request.at))
                if due > request.at:
                    break
                size_s += (due - now) * (len(self._replicas) + len(self._leaving) + len(self._starting))
                now = due
                if self._starting and due == self._starting[0]:
                    self._join(self._starting.pop(0))
                elif due == report_at:
                    self._policy.report(self._replicas)
                    report_at += _REPORT_S
                elif due == pulse_at:
                    self._policy.pulse([self._replicas[name] for name in self._changed if name in self._replicas])
                    self._changed.clear()
                    pulse_at += _PULSE_S
                elif self._scaler is not None:
                    asked = self._rescale(now, self._scaler.wanted(now, list(self._replicas.values()), asked), asked)
                    outcome.sizes.append(len(self._replicas))
                    scale_at += _SCALE_S
                ticks += 1
            began = time.process_time()
            name = self._policy.choose(request, self._replicas)
            spent += time.process_time() - began
            decisions += 1
            each = self._replicas[name]
            each.advance(request.at)
            each.put(request)
            self._schedule(each)
        busy = [each.busy_s for each in self._replicas.values()]
        outcome.decision_us, outcome.imbalance = 1e6 * spent / decisions, max(busy) / (sum(busy) / len(busy))
        outcome.replica_s = size_s
        return outcome

    def _until(self, end: float) -> None:
        while self._events and self._events[0][0] <= end:
            at, version, name = heapq.heappop(self._events)
            each = self._replicas.get(name) or self._leaving.get(name)
            if each is None or each.version != version:
                continue
            each.advance(at)
            for request, ended in each.settle():
                self._policy.note(request, ended=ended)
            if name in self._leaving and each.is_idle:
                del self._leaving[name]
            self._schedule(each)

    def _schedule(self, each: Replica) -> None:
        self._changed.add(each.name)
        each.version += 1
        at = each.next_event()
        if at is not None:
            heapq.heappush(self._events, (at, each.version, each.name))

    def _join(self, now: float) -> None:
        each = Replica(f"n{self._count}", self._machine, self._block, self.tally, now)
        self._count += 1
        self._replicas[each.name] = each
        self._policy.join(each.name)

    def _rescale(self, now: float, wanted: int, asked: int) -> int:
        """Those that are to go take nothing new and end what they have; those that are to come load weights first."""
        self._starting += [now + self._machine.start_s] * (wanted - asked)
        for _ in range(asked - wanted):
            if self._starting:
                self._starting.pop()
                continue
            name = min(self._replicas, key=lambda name: self._replicas[name].sequences)
            each = self._replicas.pop(name)
            self._policy.leave(name)
            if not each.is_idle:
                self._leaving[name] = each
        return wanted


def work_of(traffic: Traffic, machine: Machine, block: int, seed: int) -> float:
    """Replica-seconds that a second of this traffic takes without any cache, with full batches."""
    sample = list(trace(replace(traffic, seconds=min(traffic.seconds, 20.0)), seed, block))
    # A decoding sequence takes its row, and its share of the step that a batch of half the rows divides.
    row = machine.row_s + machine.step_s / (machine.most_rows / 2)
    each = sum(request.prompt * machine.token_s + request.output * row for request in sample) / len(sample)
    return each * traffic.rate


def routing(options: argparse.Namespace) -> None:
    machine, rules = Machine(), RoutingRules()
    base = Traffic(seconds=options.seconds)
    rate = base.rate * options.load * options.replicas / work_of(base, machine, rules.block, options.seed)
    traffic = replace(base, rate=rate, apps=options.apps or max(50, options.replicas))
    count = sum(1 for _ in trace(traffic, options.seed, rules.block))
    print(
        f"{options.replicas} replicas ({machine.name}), {options.servers} servers, {count} requests in "
        f"{traffic.seconds:g} s ({rate:.0f}/s), {traffic.apps} applications, load {options.load:g}, seed {options.seed}"
    )
    print("| policy | first token p50 / p95 / p99 s | further p50 / p99 ms | cached | tables | busiest / mean | us |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    policies: dict[str, Policy] = {
        "formwork": Routers(options.servers, rules),
        "two choices": TwoChoices(options.seed),
        "hashing": hashing(),
        "turns": Turns(),
    }
    for name, policy in policies.items():
        simulation = Simulation(machine, policy, rules.block)
        outcome = simulation.run(trace(traffic, options.seed, rules.block), options.replicas)
        print(_row(name, outcome))


def _row(name: str, outcome: Outcome) -> str:
    tally = outcome.tally
    first = np.percentile(tally.first_token_s, [50, 95, 99])
    further = 1e3 * np.percentile(tally.per_token_s, [50, 99])
    known = 1 - tally.new_grammars / max(1, tally.grammars)
    return (
        f"| {name} | {first[0]:.3f} / {first[1]:.3f} / {first[2]:.3f} | {further[0]:.1f} / {further[1]:.1f} "
        f"| {tally.cached_tokens / tally.prompt_tokens:.0%} | {known:.0%} | {outcome.imbalance:.2f} "
        f"| {outcome.decision_us:.0f} |"
    )


def autoscaling(options: argparse.Namespace) -> None:
    machine, rules = Machine(), RoutingRules()
    base = Traffic(seconds=options.hours * 3600)
    rate = base.rate * options.load * options.replicas / work_of(base, machine, rules.block, options.seed)
    traffic = replace(base, rate=rate, apps=max(50, options.replicas))
    least, most = max(1, options.replicas // 4), 3 * options.replicas
    print(
        f"{options.hours:g} h, {rate:.1f} requests/s +-{options.swing:.0%} in one wave, between {least} and {most} "
        f"replicas ({machine.name}), {machine.start_s:g} s to start one, seed {options.seed}"
    )
    print("| policy | first token p50 / p95 / p99 s | within 2 s | replica hours | smallest / largest | cached |")
    print("|:--|--:|--:|--:|--:|--:|")
    scalers: dict[str, tuple[Scaler | None, int]] = {
        "formwork": (ByPressure(ScalingRules(least=least, most=most), machine), options.replicas),
        **{f"{target} requests a replica": (ByRequests(target, least, most), options.replicas) for target in (8, 32)},
        "fixed at the mean": (None, options.replicas),
        "fixed at the peak": (None, int(options.replicas * (1 + options.swing))),
    }
    for name, (scaler, first) in scalers.items():
        simulation = Simulation(machine, Routers(1, rules), rules.block, scaler)
        requests = trace(traffic, options.seed, rules.block, options.swing, traffic.seconds)
        outcome = simulation.run(requests, first)
        found = np.array(outcome.tally.first_token_s)
        quantiles = np.percentile(found, [50, 95, 99])
        sizes = outcome.sizes or [first]
        print(
            f"| {name} | {quantiles[0]:.3f} / {quantiles[1]:.3f} / {quantiles[2]:.3f} "
            f"| {(found <= _PROMISE_S).mean():.2%} | {outcome.replica_s / 3600:.1f} | {min(sizes)} / {max(sizes)} "
            f"| {outcome.tally.cached_tokens / outcome.tally.prompt_tokens:.0%} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="formwork bench fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicas", type=int, default=None, help="default: 2000; with --autoscale the mean, 40")
    parser.add_argument("--servers", type=int, default=8, help="places where requests arrive, each with its router")
    parser.add_argument("--apps", type=int, default=0, help="default: as many as replicas")
    parser.add_argument("--load", type=float, default=0.8)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--autoscale", action="store_true")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--swing", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    options.replicas = options.replicas or (40 if options.autoscale else 2000)
    (autoscaling if options.autoscale else routing)(options)


if __name__ == "__main__":
    main()
