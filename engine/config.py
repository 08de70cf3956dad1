"""What the engine process is told at start, as one frozen value.

What it is for: the API process builds it from its settings and sends it down a pipe (never argv: a process list is
public). What may not enter: the environment, defaults that depend on the machine (the engine finds those and tells
them in `Ready`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Proposer = Literal["grammar", "ngram", "heads"]
# How weights are held: auto is as the checkpoint has them, none the same and refuses one that is quantized.
QuantizeName = Literal[
    "auto",
    "none",
    "bitsandbytes",
    "bitsandbytes-nf4",
    "bitsandbytes-fp4",
    "gptq",
    "awq",
    "marlin",
    "eetq",
    "fp8",
    "compressed-tensors",
    "torchao-int8",
    "torchao-int4",
]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an engine process needs. Sizes are in tokens unless the name says otherwise."""

    model: str  # a local folder or a hub id
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantize: QuantizeName = "auto"
    cache_dtype: Literal["auto", "float32", "bfloat16", "float16", "fp8"] = (
        "auto"  # of keys and values; auto: the weights'
    )
    device: str = "auto"  # "cpu", "cuda", "cuda:1", or "auto": the GPU if there is one
    page_size: int | None = None  # None: `model.default_page_size` of the device
    cache_bytes: int | None = None  # None: found by measuring free memory (CUDA), a quarter of it (CPU)
    cache_tokens: int | None = None  # the same, told in tokens
    memory_fraction: float | None = None  # the same, as a share of what is free
    cuda_graphs: bool = True  # record decoding and verifying steps on a GPU
    cuda_graph_sizes: tuple[int, ...] = ()  # of so many sequences; empty: `model.graphs.bucket_sizes`
    max_batch_tokens: int = 512  # query tokens in one step, prefill chunks and decode together
    max_sequences: int = 64  # running at once
    max_waiting: int = 256  # beyond it a request is refused as overloaded
    max_grammar_bytes: int = 1 << 30  # all loaded grammars together
    tensor_parallel_size: int = 1  # ranks that share the model, each in a process of its own
    rank_timeout_s: float = 10.0  # a rank that is missing for so long in a step has died or hangs
    max_adapters: int = 0  # LoRA adapters that are loaded at once
    max_adapter_rank: int = 64
    threads: int | None = None  # torch's and the mask kernels'; None: the cores this process may use
    prefix_sharing: bool = True
    speculate: int = 16  # guesses that one pass may verify for a sequence; 0: none; never changes what is drawn
    proposers: tuple[Proposer, ...] = ("grammar", "ngram", "heads")  # who guesses
    draft_model: str | None = None  # a folder or hub id: a smaller model of the same vocabulary that guesses
    heads: str | None = None  # a folder with Medusa heads; None: the model's own, if it holds some
    watermark_key_file: str | None = None  # None: no key ring, so no request can be marked
    watermark_commonplaces: str = ""  # as `Commonplaces.of_model`: what the detector does not count
    json_logs: bool = False  # lines for machines
    faults: str = ""  # what breaks on purpose (engine.faults); empty: nothing, and nothing is wrapped
    trust_remote_code: bool = False  # run the Python files of a model whose configuration names them
