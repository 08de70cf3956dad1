"""How a runner is set up, as one frozen value.

What it is for: the engine process builds it from its own configuration. What may not enter: the environment, defaults
that depend on the machine (the runner measures those and tells them in `ModelInfo`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.config import QuantizeName

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
CacheDtypeName = Literal["auto", "float32", "bfloat16", "float16", "fp8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """A model and the memory it may use.

    The cache holds `pages` pages if given, else `cache_bytes`, else `memory_fraction` of what is free once the weights
    are there.
    """

    path: str  # a local folder or a hub id
    dtype: DtypeName = "auto"  # auto: the checkpoint's own on CUDA, float32 on CPU
    quantize: QuantizeName = "auto"  # how weights are held: as the checkpoint has them, or made so at start
    cache_dtype: CacheDtypeName = "auto"  # of keys and values; auto: the weights'; fp8 on CUDA only
    device: str = "auto"  # "cpu", "cuda", "cuda:1", or "auto": the GPU if there is one
    page_size: int = 16
    pages: int | None = None
    cache_bytes: int | None = None
    memory_fraction: float | None = None  # None: 0.9 on CUDA, 0.25 on CPU
    threads: int | None = None  # None: one for small models, else the cores this process may use
    max_batch_tokens: int = 512  # the largest step that will be asked for; warm-up and measurements use it
    max_sequences: int = 64  # likewise
    guesses: int = 0  # that a decoding sequence may bring to a step; CUDA graphs are recorded for as many
    cuda_graphs: bool = True  # record decoding and verifying steps; off saves start-up time and some memory
    cuda_graph_sizes: tuple[int, ...] = ()  # of so many sequences; empty: `graphs.bucket_sizes`
    heads: str | None = None  # a folder with Medusa heads for this model
    revision: str | None = None  # of a hub id
    trust_remote_code: bool = False  # run the Python files of a model whose configuration names them
