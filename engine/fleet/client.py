"""Many replicas as one engine: requests are placed, and taken elsewhere when their replica ends.

What it is for: implements `engine.Engine` over links to replicas that a directory lists. What may not enter: Ray, HTTP,
how a replica is chosen (`routing.py`) or found slow (`fitness.py`).

The idea: as in `engine.client`, whoever takes a request in owns it: prompt, seed, tokens received. A replica that dies,
goes silent or is taken down is therefore a pause: the request is sent to another one with what it has, and matcher,
watermark and noise are rebuilt from that. Nothing else needs to be agreed on between replicas. What has killed one's
engine (which has tried it alone by then) is refused for a while, or it would go round and kill them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import zmq.asyncio

from engine.continued import Continued
from engine.errors import (
    DeadlineExceeded,
    EngineDied,
    EngineKilled,
    EngineOverloaded,
    EngineUnavailable,
    InternalError,
)
from engine.fleet.fitness import Fitness, FitnessRules
from engine.fleet.link import Link, LinkLost, LinkRules
from engine.fleet.messages import KeyPair, Member, Report
from engine.fleet.routing import Load, Placed, Router, RoutingRules, Wanted, wanted_of
from engine.fleet.totals import common_info, is_same_model, total_continuity, total_stats
from engine.interface import Continuity, EngineState
from engine.messages import Generate, ModelInfo, Output, Plan, Stats
from engine.suspects import Quarantine, refused_for

logger = logging.getLogger(__name__)


class Directory(Protocol):
    """Knows which replicas there are."""

    async def members(self) -> Sequence[Member]:
        """Those that should be used now. May raise: what was told last then holds on."""
        ...

    async def close(self) -> None:
        """Nobody will ask again."""
        ...


class FleetRules(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the client is."""

    start_s: float = 600.0  # until the first replica is there
    look_s: float = 0.5  # between two looks into the directory
    wait_s: float = 60.0  # of a request, in all, while no replica can take it
    most_resumptions: int = 2  # of one request, after replicas that died under it
    most_moves: int = 64  # of one request, from replicas that were taken down as planned
    most_refusals: int = 2  # further replicas that are asked when one is full
    quarantine_s: float = 300.0  # what killed a replica's engine alone is refused so long, by all of them
    retry_s: float = 0.5  # before a lost link is opened again; doubled each time
    most_retry_s: float = 15.0
    link: LinkRules = LinkRules()


@dataclass(slots=True, eq=False)
class _Live:
    """A request that has not ended."""

    continued: Continued
    plan: Plan | None
    placed: Placed | None = None
    attempts: int = 0
    resumptions: int = 0
    alone: int = 0  # of these, when nothing else of ours was there
    moves: int = 0
    refusals: int = 0
    avoided: set[str] = field(default_factory=set)
    waited_s: float = 0.0

    def message(self) -> Generate:
        """The request as it stands, under a name of its own: what an earlier place still sends is not taken for it."""
        name = f"{self.continued.request.request_id}.{self.attempts}"
        return self.continued.message(time.monotonic(), name)


@dataclass(slots=True, eq=False)
class _Place:
    """A replica that the directory lists."""

    member: Member
    link: Link | None = None
    keeper: asyncio.Task[None] | None = None


class FleetClient:
    """Made by `start`; one per event loop."""

    def __init__(self, directory: Directory, keys: KeyPair, rules: FleetRules) -> None:
        self._directory = directory
        self._keys = keys
        self._rules = rules
        self._context = zmq.asyncio.Context()
        self._routing = RoutingRules()
        self._router = Router(self._routing)
        self._fitness = Fitness(FitnessRules())
        self._places: dict[str, _Place] = {}
        self._live: dict[str, _Live] = {}
        self._info: ModelInfo | None = None
        self._own = Continuity()
        self._quarantine = Quarantine(rules.quarantine_s)
        self._state = EngineState.STARTING
        self._changed = asyncio.Event()  # anew whenever a replica may have become able to take requests
        self._looker: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, directory: Directory, keys: KeyPair, rules: FleetRules | None = None) -> FleetClient:
        """Waits until one replica is ready. Raises EngineUnavailable."""
        client = cls(directory, keys, rules or FleetRules())
        client._looker = asyncio.create_task(client._look())
        try:
            async with asyncio.timeout(client._rules.start_s):
                while client._info is None or not client._ready():
                    await client._change()
        except TimeoutError:
            await client.close()
            raise EngineUnavailable(f"no replica was ready within {client._rules.start_s:g} s") from None
        except BaseException:
            await client.close()
            raise
        client._state = EngineState.READY
        return client

    @property
    def info(self) -> ModelInfo:
        """The model, as the replica with the smallest cache tells it."""
        infos = [place.link.info for place in self._places.values() if place.link and place.link.info]
        if infos:
            self._info = common_info(infos)
        assert self._info is not None, "start() has returned, so a replica has told it"
        return self._info

    @property
    def stats(self) -> Stats:
        """Sums over the replicas that are there."""
        return total_stats([report.stats for report in self._reports()])

    @property
    def state(self) -> EngineState:
        if self._state is EngineState.READY and not self._ready():
            return EngineState.RESTARTING
        return self._state

    @property
    def continuity(self) -> Continuity:
        """Deaths of engines within replicas, and of replicas."""
        return total_continuity([self._own, *(report.continuity for report in self._reports())])

    @property
    def replicas(self) -> dict[str, EngineState]:
        """Each replica that the directory lists; one whose link is lost is restarting, as far as we know."""
        return {
            name: place.link.report.state if place.link and place.link.report else EngineState.RESTARTING
            for name, place in self._places.items()
        }

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        """See `engine.Engine.generate`."""
        if self._state is not EngineState.READY:
            raise EngineUnavailable(f"the engine is {self._state}")
        if request.request_id in self._live:
            raise InternalError(f"request id {request.request_id!r} is in use")
        if left_s := self._quarantine.left_s(request):
            self._count(quarantined=1)
            raise refused_for(left_s)
        live = self._live[request.request_id] = _Live(Continued(request, time.monotonic()), plan)
        try:
            ended = False
            while not ended:
                link = await self._placed(live)
                try:
                    async with aclosing(self._from(link, live)) as outputs:
                        async for output in outputs:
                            ended = output.finish is not None
                            yield output
                except LinkLost as lost:
                    self._after_loss(live, lost)
                except EngineUnavailable as going:
                    self._after_departure(live, link, going)
                except EngineOverloaded:
                    self._after_refusal(live, link)
                except EngineKilled:
                    self._quarantine.put(request)  # it would kill the next replica's
                    raise
                finally:
                    assert live.placed is not None, "it was placed"
                    live.placed.ended()
                    live.continued.lost(time.monotonic())
        finally:
            self._live.pop(request.request_id, None)

    async def close(self, drain_s: float = 0.0) -> None:
        """See `engine.Engine.close`; what becomes of the replicas is the directory's."""
        if self._state is EngineState.CLOSED:
            return
        self._state = EngineState.DRAINING
        end = time.monotonic() + drain_s
        while self._live and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self._state = EngineState.CLOSED
        for task in (self._looker, *(place.keeper for place in self._places.values())):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        for place in self._places.values():
            if place.link is not None:
                place.link.close("the service was closed")
        self._changed.set()
        await asyncio.sleep(0)  # for the requests to hear of it
        self._context.destroy(linger=0)
        await self._directory.close()

    # Placing

    async def _placed(self, live: _Live) -> Link:
        """A link for the request; waits while there is none."""
        wanted = wanted_of(live.message(), self._routing)
        while True:
            link = self._chosen(wanted, live.avoided)
            if link is not None:
                live.attempts += 1
                live.placed = self._router.begin(link.name, wanted)
                self._fitness.probed(link.name, time.monotonic())
                return link
            if live.avoided:  # all others are gone: perhaps one of these has come back
                live.avoided.clear()
            began = time.monotonic()
            await self._change(self._patience(live))
            live.waited_s += time.monotonic() - began

    def _patience(self, live: _Live) -> float:
        """How long the request may wait for the next change. Raises what ends it."""
        now = time.monotonic()
        if self._state is EngineState.CLOSED:
            raise EngineUnavailable("the engine was closed")
        due = live.continued.due
        if due is not None and now >= due:
            raise DeadlineExceeded("no replica could take the request before its deadline")
        if live.waited_s >= self._rules.wait_s:
            raise EngineUnavailable(f"no replica could take the request within {self._rules.wait_s:g} s")
        left = self._rules.wait_s - live.waited_s
        return left if due is None else min(left, due - now)

    def _chosen(self, wanted: Wanted, avoided: set[str]) -> Link | None:
        slow = self._fitness.spared(time.monotonic())
        while name := self._router.choose(wanted, avoided | slow) or self._router.choose(wanted, avoided):
            link = self._places[name].link
            if link is not None and link.takes_requests:
                return link
            self._leave(name)  # it was lost a moment ago
        return None

    # What comes of it

    async def _from(self, link: Link, live: _Live) -> AsyncGenerator[Output, None]:
        """Outputs of one attempt, checked and noted. Raises an EngineError subclass or LinkLost."""
        request = live.message()
        live.continued.sent(time.monotonic())
        waits_since: float | None = None  # the first output has a prompt to wait for, and says nothing of the pace
        async with aclosing(link.stream(request, live.plan)) as outputs:
            async for output in outputs:
                now = time.monotonic()
                told = live.continued.take(output, now)
                if waits_since is not None and output.tokens:
                    self._fitness.observe(link.name, now - waits_since, len(output.tokens))
                live.waited_s = 0.0
                if live.placed is not None:
                    live.placed.computed()
                yield told
                waits_since = time.monotonic()

    def _after_loss(self, live: _Live, lost: LinkLost) -> None:
        if self._state is EngineState.CLOSED:
            raise EngineUnavailable("the engine was closed")
        live.resumptions += 1
        live.alone += lost.alone
        if live.resumptions > self._rules.most_resumptions:
            self._count(lost=1)
            if live.alone == live.resumptions:
                self._quarantine.put(live.continued.request)
            raise EngineDied(f"{live.resumptions} replicas ended under the request; the last one: {lost}")
        self._count(resumptions=1)

    def _after_departure(self, live: _Live, link: Link, going: EngineUnavailable) -> None:
        live.moves += 1
        live.avoided.add(link.name)
        if live.moves > self._rules.most_moves:
            self._count(lost=1)
            raise going
        self._count(resumptions=1)

    def _after_refusal(self, live: _Live, link: Link) -> None:
        """It was full; that of others is asked before the caller is told to come again."""
        live.refusals += 1
        live.avoided.add(link.name)
        others = self._router.names() - live.avoided
        if live.refusals > self._rules.most_refusals or not others:
            raise EngineOverloaded("every replica that was asked is full")

    def _count(self, **more: int) -> None:
        self._own = total_continuity([self._own, Continuity(**more)])

    # Replicas

    async def _look(self) -> None:
        """Follows the directory until cancelled."""
        while True:
            try:
                members = await self._directory.members()
            except Exception as error:  # whatever the directory is made of; the replicas are still where they were
                logger.warning("the directory does not answer (%s); going on with the replicas known", error)
            else:
                self._follow(members)
            self._fitness.judge()
            await asyncio.sleep(self._rules.look_s)

    def _follow(self, members: Sequence[Member]) -> None:
        listed = {member.name: member for member in members}
        for name, place in list(self._places.items()):
            unused = place.link is None or not place.link.inside  # else it is drained: its streams go on to their end
            if listed.get(name) != place.member and unused:
                self._forget(name)
        for name, member in listed.items():
            if name not in self._places:
                place = self._places[name] = _Place(member)
                place.keeper = asyncio.create_task(self._keep(place))

    def _forget(self, name: str) -> None:
        place = self._places.pop(name)
        if place.keeper is not None:
            place.keeper.cancel()
        if place.link is not None:
            place.link.close("it was taken off the list")
            self._leave(name)

    async def _keep(self, place: _Place) -> None:
        """Holds a link to one replica open; between two attempts it waits longer each time."""
        rules, pause = self._rules, self._rules.retry_s
        while True:
            try:
                link = await Link.open(place.member, self._keys, self._context, rules.link)
            except LinkLost as lost:
                logger.info("%s; again in %g s", lost, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, rules.most_retry_s)
                continue
            if not self._is_of_this_fleet(link):
                await asyncio.sleep(rules.most_retry_s)
                continue
            pause = rules.retry_s
            place.link = link
            while not link.lost:
                self._note(link)
                link.reported.clear()
                await link.reported.wait()
            logger.warning("lost a replica: %s", link.reason)
            place.link = None
            self._leave(link.name)
            self._count(restarts=1)
            self._signal()

    def _is_of_this_fleet(self, link: Link) -> bool:
        assert link.info is not None, "the welcome comes before the first report"
        self._info = self._info or link.info
        if is_same_model(self._info, link.info):
            return True
        logger.error("%s serves another model than the other replicas; it gets no requests", link.name)
        link.close("it serves another model")
        return False

    def _leave(self, name: str) -> None:
        """It takes nothing; what it had computed is forgotten with it, as by a restart of its engine."""
        if name in self._router:
            self._router.leave(name)
        self._fitness.forget(name)

    def _note(self, link: Link) -> None:
        assert link.report is not None, "a link is open once its first report has come"
        assert link.info is not None, "and the welcome comes before that"
        if not link.takes_requests:
            self._leave(link.name)
            return
        if link.name not in self._router:
            self._router.join(link.name)
        stats, pulse = link.report.stats, link.pulse
        share = stats.pages_used / max(1, stats.pages_total)
        cache_tokens = link.info.pages * link.info.page_size
        if pulse is not None:
            self._router.report(link.name, Load(pulse.queued_tokens, pulse.sequences, share, cache_tokens))
            return
        self._router.report(link.name, Load(stats.queued_tokens, stats.running + stats.waiting, share, cache_tokens))
        self._router.learn(link.name, link.report.blocks, link.report.grammars)
        self._router.judge(link.name, self._fitness.pace(link.name))
        self._signal()

    def _reports(self) -> list[Report]:
        return [place.link.report for place in self._places.values() if place.link and place.link.report]

    def _ready(self) -> bool:
        return any(report.state is EngineState.READY for report in self._reports())

    def _signal(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, timeout_s: float | None = None) -> None:
        """Waits for the next change; not longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
