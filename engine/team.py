"""The ranks that run one model together: processes, each with a line to the first.

What it is for: the engine process is rank 0; `TeamRunner` starts the others, tells them each step, and runs its own
share. What may not enter: how a model is divided (`engine.model.parallel`), what a rank does with a step (`rank`).

The idea: a `StepBatch` is all that a forward pass needs, so it is all that the others are told: a few kilobytes over a
socket pair that only these two processes have. A rank that dies ends the engine process, and with it the others; the
client starts a new one and resumes every request. One that hangs is missed in the next sum.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import StepBatch
from engine.model import ModelRunner, RunnerConfig, UnsupportedModel
from engine.model.loading import load_config
from engine.model.parallel import ProcessGroup, divide, plan_of

logger = logging.getLogger(__name__)

_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}
_START_GRACE_S = 20.0
_LOST_RANK = 70  # exit status of an engine process whose rank has died (EX_SOFTWARE)
_DTYPES = {
    "query_starts": np.int32,
    "context_lengths": np.int32,
    "page_table": np.int32,
    "adapters": np.int32,
}  # the others are int64


class RankLaunch(msgspec.Struct, frozen=True):
    """What a rank is told first."""

    config: RunnerConfig
    rank: int
    ranks: int
    rendezvous: str  # a file in a folder that only this user can enter
    timeout_s: float


class Run(msgspec.Struct, frozen=True, tag="run"):
    """One forward pass: the arrays of a StepBatch as bytes, and the widest page list."""

    arrays: dict[str, bytes]
    widest: int


class CopyPage(msgspec.Struct, frozen=True, tag="copy"):
    """One page, in every layer."""

    source: int
    target: int


class LoadAdapter(msgspec.Struct, frozen=True, tag="load"):
    """Each rank reads its part of the folder's adapter."""

    slot: int
    folder: str
    most_rank: int


class UnloadAdapter(msgspec.Struct, frozen=True, tag="unload"):
    """A slot is free."""

    slot: int


Order = Run | CopyPage | LoadAdapter | UnloadAdapter


def order(batch: StepBatch) -> Run:
    """A batch to send."""
    arrays = {name: array.tobytes() for name in batch.__slots__ if (array := getattr(batch, name)) is not None}
    return Run(arrays, batch.page_table.shape[1])


def batch_of(run: Run) -> StepBatch:
    """The batch that was sent."""
    arrays: dict[str, NDArray[Any]] = {
        name: np.frombuffer(data, _DTYPES.get(name, np.int64)).copy() for name, data in run.arrays.items()
    }
    arrays["page_table"] = arrays["page_table"].reshape(-1, run.widest)
    return StepBatch(**arrays)


def device_of(config: RunnerConfig, rank: int, ranks: int) -> RunnerConfig:
    """The configuration with the rank's own device. Raises UnsupportedModel where there are too few."""
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return replace(config, device="cpu")
    if name != "cuda":
        raise UnsupportedModel(f"device {name} is one device; several ranks take cuda (the first {ranks}) or cpu")
    if torch.cuda.device_count() < ranks:
        raise UnsupportedModel(f"{ranks} ranks need as many GPUs; torch finds {torch.cuda.device_count()}")
    return replace(config, device=f"cuda:{rank}")


class TeamRunner:
    """Implements `engine.batch.Runner` on rank 0 of several."""

    def __init__(self, config: RunnerConfig, ranks: int, timeout_s: float) -> None:
        own = device_of(config, 0, ranks)
        settings = load_config(config.path, trust=config.trust_remote_code)
        plan_of(settings)
        divide(settings, 0, ranks)  # what cannot be divided is refused before any process is started
        os.environ.update(_LOOPBACK)
        self._folder = tempfile.TemporaryDirectory(prefix="formwork-ranks-")
        rendezvous = str(Path(self._folder.name) / "rendezvous")
        self._lines: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._encoder = msgspec.msgpack.Encoder()
        self._grace_s = _START_GRACE_S
        self._closing = threading.Event()
        atexit.register(self.close)
        try:
            for rank in range(1, ranks):
                self._start(RankLaunch(device_of(config, rank, ranks), rank, ranks, rendezvous, timeout_s))
            self.group = ProcessGroup(0, ranks, rendezvous, torch.device(own.device), timeout_s)
            self._runner = ModelRunner(own, self.group)
        except BaseException:
            self.close()
            raise
        self.group.hurry()
        self._grace_s = 0.0
        self.info = self._runner.info
        self.threads = self._runner.threads
        self.heads = self._runner.heads

    def run(self, batch: StepBatch) -> torch.Tensor:
        """As Runner; every rank takes part."""
        self._tell(order(batch))
        return self._runner.run(batch)

    def copy_page(self, source: int, target: int) -> None:
        """As Runner."""
        self._tell(CopyPage(source, target))
        self._runner.copy_page(source, target)

    def load_adapter(self, slot: int, folder: str, most_rank: int) -> None:
        """As ModelRunner; what rank 0 refuses the others are never told."""
        self._runner.load_adapter(slot, folder, most_rank)
        self._tell(LoadAdapter(slot, folder, most_rank))

    def unload_adapter(self, slot: int) -> None:
        """As ModelRunner."""
        self._runner.unload_adapter(slot)
        self._tell(UnloadAdapter(slot))

    def close(self) -> None:
        """Lets the other ranks end; may be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        for line in self._lines:
            line.close()
        for process in self._processes:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def _tell(self, message: Order) -> None:
        data = self._encoder.encode(message)
        for line in self._lines:
            line.send_bytes(data)

    def _start(self, launch: RankLaunch) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "engine.rank", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_LOOPBACK},
            )
        line = Connection(ours.detach())
        line.send_bytes(self._encoder.encode(launch))
        self._lines.append(line)
        self._processes.append(process)
        threading.Thread(target=self._watch, args=(launch.rank, process), daemon=True).start()

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """Without one rank the others can do nothing, not even wait for work."""
        status = process.wait()
        # While they start, what one rank cannot do rank 0 cannot do either, and it can say why.
        if not self._closing.wait(self._grace_s):
            logger.critical("rank %d ended with status %d: the engine process ends, too", rank, status)
            os._exit(_LOST_RANK)
