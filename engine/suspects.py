"""Which request kills the engine process: found by trying suspects one at a time, and then kept out for a while.

What it is for: `engine.client` asks it who is sent again after a death, and who is not let in; `engine.fleet.client`
the second only, for its replicas find out the first. What may not enter: sockets, processes, what requests say.

The idea: a death does not tell whose fault it was, so at first everyone who was in the process goes back. Who has been
in one too often has a last chance, and those with a last chance go back one by one, each when the one before has got
clearly past the place where it stood. If the process dies now, the one on trial did it: it alone ends with an error,
and those beside it are not blamed. What it asked for is then refused, whoever asks, until some time has passed: a
client that sends it again would take the engine away from everyone.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from engine.errors import EngineKilled
from engine.messages import Generate

TRIAL_TOKENS = 32  # beyond where it stood: more than one step verifies


@dataclass(slots=True)
class Suspects:
    """Requests that have a last chance, in order; the first that was taken is on trial."""

    on_trial: str | None = None
    _needed: OrderedDict[str, int] = field(default_factory=OrderedDict)  # request → tokens that acquit it

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._needed

    def add(self, request_id: str, emitted: int) -> None:
        """It stood at `emitted` tokens when the process died under it."""
        self._needed[request_id] = emitted + TRIAL_TOKENS

    def take(self) -> str | None:
        """Puts the next one on trial, where nobody is; None if there is none."""
        if self.on_trial is not None or not self._needed:
            return None
        self.on_trial = next(iter(self._needed))
        return self.on_trial

    def adjourn(self) -> None:
        """There is a new process: whoever was to be tried in the last one has not been."""
        self.on_trial = None

    def has_passed(self, request_id: str, emitted: int) -> bool:
        """Whether so many tokens acquit it."""
        return request_id == self.on_trial and emitted >= self._needed[request_id]

    def release(self, request_id: str) -> bool:
        """It is a suspect no more, for better or worse; True if it was on trial: it is the next one's turn."""
        self._needed.pop(request_id, None)
        was = self.on_trial == request_id
        if was:
            self.on_trial = None
        return was


def refused_for(seconds: float) -> EngineKilled:
    """What a request is told that asks for what is kept out."""
    return EngineKilled(f"the engine process ended under this request each time; it is refused for {seconds:.0f} s")


def fingerprint(request: Generate) -> bytes:
    """What a request asks for, whoever asks and however it is drawn."""
    sampling = msgspec.structs.replace(request.sampling, seed=0)
    plain = Generate(
        request_id="", prompt=request.prompt, sampling=sampling, grammar=request.grammar, adapter=request.adapter
    )
    return hashlib.sha256(msgspec.msgpack.encode(plain)).digest()


@dataclass(slots=True)
class Quarantine:
    """Fingerprints of what is refused, each for `seconds`; the oldest make room."""

    seconds: float
    most: int = 1024
    clock: Callable[[], float] = time.monotonic
    _until: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    def put(self, request: Generate) -> None:
        self._until[fingerprint(request)] = self.clock() + self.seconds
        while len(self._until) > self.most:
            self._until.popitem(last=False)

    def left_s(self, request: Generate) -> float:
        """For how long this is refused yet; 0 if it is not."""
        if not self._until:  # nearly always: nothing is hashed
            return 0.0
        key = fingerprint(request)
        left = self._until.get(key, 0.0) - self.clock()
        if left <= 0:
            self._until.pop(key, None)
        return max(0.0, left)
