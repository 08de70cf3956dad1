"""What a replica is told at start, as one frozen value that crosses the cluster as JSON."""

from __future__ import annotations

import msgspec

from engine.config import EngineConfig


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The key ring travels as content, not as a path: the other machine does not have the file."""

    config: EngineConfig  # its model is a folder of the machine that deploys; the replica's may be another
    model: str  # as it was named: a folder or a hub id
    revision: str | None
    key_ring: bytes | None  # content of config.watermark_key_file
    client_key: str  # public CURVE key of those who may connect
    silence_s: float  # of the engine process
    drain_s: float
    log_level: str
    log_format: str
