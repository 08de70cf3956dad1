"""The engine process: loads the model, says that it is ready, then alternates between commands and steps.

What it is for: the composition root of the engine, its socket and its signals. What may not enter: how a step is
made.

The idea: one thread. While there is work, commands are read between steps without waiting; when there is none, the
process waits for a command and sends a sign of life a few times a second. It ends with its parent, whatever becomes
of that.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec
import torch
import zmq

import grammar
import watermark
from engine import sampler
from engine.adapters import AdapterStore
from engine.admission import Admission
from engine.canonical import Canonical
from engine.checkpoint import locate
from engine.config import EngineConfig
from engine.draft_model import DraftModel
from engine.drawing import Sampler
from engine.faults import FaultPoints, FaultySocket, Site, injected, parse_faults
from engine.generation import Spelling
from engine.grammars import GrammarStore
from engine.lifetime import die_with_parent
from engine.loop import EngineLoop, Rooms
from engine.mask_helper import MaskHelper
from engine.messages import (
    Abort,
    Batch,
    Command,
    Event,
    Fatal,
    Generate,
    LoadGrammar,
    ModelInfo,
    Ping,
    Ready,
    Shutdown,
    Stats,
)
from engine.model import ModelError, ModelRunner, RunnerConfig, UnsupportedModel, default_page_size
from engine.model.memory import usable_cores
from engine.pages import PagePool
from engine.sampler import CpuSampler
from engine.scheduler import Scheduler
from engine.speculation.setup import heads_folder, speculation_of
from engine.step_times import StepTimes
from engine.team import TeamRunner
from engine.tokenizer import Tokenizer, TokenizerError
from engine.wire import Launch, Wire, engine_side
from watermark import Commonplaces, KeyRing, WatermarkError

DeviceSampler: Any = None
with suppress(ImportError):  # no Triton on this platform
    from engine.device_sampler import DeviceSampler

logger = logging.getLogger(__name__)

_DRAIN_S = 30.0  # on SIGTERM; a Shutdown message says its own
_LINGER_MS = 2000  # for the last events to leave
_SWITCH_S = 0.0005  # the forward pass comes back for the GIL after each operation: it must not wait for 5 ms every time


def serve(launch: Launch) -> int:
    """Runs until told to stop; the exit status."""
    die_with_parent()
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.setsockopt(zmq.LINGER, _LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, 0)  # events are small, and the API process reads all the time
    socket.connect(launch.address)
    wire = engine_side(launch.secret)
    try:
        return _serve(launch, socket, wire)
    finally:
        socket.close()
        context.term()


def _serve(launch: Launch, socket: zmq.Socket[bytes], wire: Wire[Command]) -> int:
    points = FaultPoints(parse_faults(launch.config.faults), launch.life) if launch.config.faults else None
    try:
        if points is not None:
            points.reach(Site.LOAD)
        rooms = build(launch.config)
    except (ModelError, TokenizerError, WatermarkError, OSError, ValueError) as error:
        socket.send_multipart(wire.frames(Fatal(str(error))))
        return 1
    if points is not None:
        logger.warning("fault points are on: %s", launch.config.faults)
        rooms, socket = injected(rooms, points), cast("zmq.Socket[bytes]", FaultySocket(socket, points))
    quieten_collector()
    Server(launch, socket, wire, rooms).run()
    return 0


def build(config: EngineConfig) -> Rooms:
    """Loads everything that `config` names. Raises ModelError, TokenizerError, WatermarkError or OSError."""
    if config.draft_model is not None and config.speculate == 0:
        raise UnsupportedModel("a draft model needs speculate above 0")
    folder = locate(config.model, code=config.trust_remote_code)
    tokenizer = Tokenizer.load(folder)
    key_ring = KeyRing.from_file(config.watermark_key_file) if config.watermark_key_file else None
    commonplaces = Commonplaces.of_model(config.watermark_commonplaces, folder, tokenizer.fingerprint)
    runner = make_runner(config, folder)
    ends = list(dict.fromkeys((*runner.info.eos_token_ids, *tokenizer.eos_token_ids)))
    info = msgspec.structs.replace(runner.info, eos_token_ids=ends)
    spelled = tokenizer.padded_bytes(info.vocab_size)
    vocabulary = grammar.Vocabulary(spelled, ends, tokenizer.special_tokens)
    grammar.warm(vocabulary)
    watermark.warm()
    sampler.warm()
    scheduler = Scheduler(
        PagePool(info.pages, info.page_size),
        max_batch_tokens=config.max_batch_tokens,
        max_sequences=config.max_sequences,
        max_waiting=config.max_waiting,
        max_rows=max(256, 4 * config.max_sequences),
        sharing=config.prefix_sharing,
    )
    speculation = speculation_of(config, tokenizer, vocabulary, runner, runner.heads)
    admission = Admission(
        grammars=GrammarStore(lambda data: grammar.load_grammar(data, vocabulary), config.max_grammar_bytes),
        spelling=Spelling(spelled, frozenset(ends)),
        key_ring=key_ring,
        capacity=min(info.max_positions, scheduler.capacity),
        drafter=speculation.drafter if speculation else None,
        canonical=Canonical(tokenizer.encode, spelled, tokenizer.word_starts),
        commonplaces=commonplaces,
        adapters=AdapterStore(runner, config.max_adapters, config.max_adapter_rank) if config.max_adapters else None,
    )
    drafting = None if config.draft_model is None else draft_model_of(config, config.draft_model, runner, tokenizer)
    return Rooms(info, runner, scheduler, make_sampler(info, runner.threads), admission, speculation, drafting)


def draft_model_of(
    config: EngineConfig, name: str, runner: ModelRunner | TeamRunner, tokenizer: Tokenizer
) -> DraftModel:
    """The model that guesses, over as many pages, whole and beside the first rank; torch's threads stay as they are.

    Raises UnsupportedModel if it cannot stand beside the served one.
    """
    folder, info = locate(name, code=config.trust_remote_code), runner.info
    # `quantize` is about the served model: the other's weights are held as its own checkpoint has them.
    settings = replace(runner_config(config, folder), quantize="auto", page_size=info.page_size, pages=info.pages)
    drafting = ModelRunner(replace(settings, threads=runner.threads))
    width, own = drafting.info.vocab_size, Tokenizer.load(folder)
    alike = own.padded_bytes(width) == tokenizer.padded_bytes(width) and own.special_tokens == tokenizer.special_tokens
    if width != info.vocab_size or not alike:
        raise UnsupportedModel(f"the draft model {name} has another vocabulary than the model it is to guess for")
    return DraftModel(drafting, make_sampler(drafting.info, drafting.threads), width, config.speculate)


def make_runner(config: EngineConfig, folder: Path) -> ModelRunner | TeamRunner:
    """The model in `folder`, by this process or by several ranks of which it is the first."""
    settings = replace(runner_config(config, folder), heads=heads_folder(config, folder))
    if config.tensor_parallel_size == 1:
        return ModelRunner(settings)
    return TeamRunner(settings, config.tensor_parallel_size, config.rank_timeout_s)


def runner_config(config: EngineConfig, folder: Path) -> RunnerConfig:
    """How the model in `folder` is run: what the served model and one that guesses for it have in common."""
    page_size = config.page_size or default_page_size(config.device)
    return RunnerConfig(
        path=str(folder),
        dtype=config.dtype,
        quantize=config.quantize,
        cache_dtype=config.cache_dtype,
        device=config.device,
        page_size=page_size,
        pages=-(-config.cache_tokens // page_size) if config.cache_tokens else None,
        cache_bytes=config.cache_bytes,
        memory_fraction=config.memory_fraction,
        guesses=config.speculate if config.proposers or config.draft_model else 0,
        cuda_graphs=config.cuda_graphs,
        cuda_graph_sizes=config.cuda_graph_sizes,
        threads=config.threads,
        max_batch_tokens=config.max_batch_tokens,
        max_sequences=config.max_sequences,
        trust_remote_code=config.trust_remote_code,
    )


def mask_helper(device: str) -> MaskHelper | None:
    """A thread that may fill masks while the loop's thread computes; none where the device computes, or on one core."""
    if not device.startswith("cpu") or usable_cores() < 2:
        return None
    sys.setswitchinterval(_SWITCH_S)
    return MaskHelper(ThreadPoolExecutor(1, thread_name_prefix="masks"))


def quieten_collector() -> None:
    """Takes all that lives as long as the process out of the garbage collector's sight.

    A full collection looks at every object of torch, transformers and the vocabulary: 100 ms in the middle of a step.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # extension modules look for leaks at exit


def make_sampler(info: ModelInfo, threads: int) -> Sampler:
    """Where the logits are: on a device, if Triton is there to run on it, else here."""
    device = torch.device(info.device)
    if device.type == "cuda" and DeviceSampler is not None:
        made: Sampler = DeviceSampler(info.vocab_size, device)
        return made
    return CpuSampler(info.vocab_size, threads)


class Server:
    """Commands in, events out, around one loop."""

    def __init__(self, launch: Launch, socket: zmq.Socket[bytes], wire: Wire[Command], rooms: Rooms) -> None:
        self._socket = socket
        self._wire = wire
        self._beat_s = launch.beat_s
        self._parent = os.getppid()
        self._loop = EngineLoop(rooms, time.monotonic, mask_helper(rooms.info.device))
        self._times = StepTimes(rooms.info.memory_bandwidth)
        self._info = rooms.info
        self._ends_at: float | None = None  # draining until then
        self._beat_at = 0.0

    def run(self) -> None:
        """Until a shutdown has drained, or the parent is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the API process decides what it means
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._send(Ready(self._info))
        while not self._is_over():
            self._read_commands()
            events = self._loop.step()
            if events:
                with self._loop.measures.timing("publish", time.monotonic):
                    self._send(Batch(events))
            self._times.note(self._loop.measures, self._loop.running)
            self._beat()
        self._send(Batch(self._loop.abort_all()))

    def _is_over(self) -> bool:
        if os.getppid() != self._parent:
            return True
        return self._ends_at is not None and (self._loop.is_idle or time.monotonic() >= self._ends_at)

    def _read_commands(self) -> None:
        """All that have come; waits for the first if there is nothing else to do."""
        wait_s = self._beat_s if self._loop.is_idle else 0.0
        while self._socket.poll(int(wait_s * 1000)):
            command = self._wire.message(self._socket.recv_multipart())
            if command is not None:
                self._obey(command)
            wait_s = 0.0

    def _obey(self, command: Command) -> None:
        match command:
            case Generate():
                events = self._loop.generate(command)
                if events:
                    self._send(Batch(events))
            case LoadGrammar(plan):
                self._loop.load_grammar(plan)
            case Abort(request_id):
                self._loop.abort(request_id)
            case Ping(nonce):
                self._send(self._stats(nonce))
            case Shutdown(drain_s):
                self._drain(drain_s)

    def _drain(self, drain_s: float) -> None:
        self._loop.drain()
        self._ends_at = time.monotonic() + drain_s

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._drain(_DRAIN_S if self._ends_at is None else 0.0)

    def _beat(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._send(self._stats())
            self._beat_at = time.monotonic() + self._beat_s

    def _stats(self, nonce: int = 0) -> Stats:
        return msgspec.structs.replace(self._loop.stats(nonce), batches=self._times.told())

    def _send(self, event: Event) -> None:
        self._socket.send_multipart(self._wire.frames(event))
