"""How near to the GPU's memory does decoding come, and how far from transformers' continuous batching?

    formwork bench device                                # a random Llama of 8B parameters in bfloat16, made for the run
    formwork bench device --shape 1b --tokens 128
    formwork bench device --no-peer --no-engine          # forward passes only

Forward: a decode step over the paged cache, replayed from its CUDA graph, between two waits for the device; bytes are
those of the weights and of the keys and values it must read, the share is of the rate at which this device reads
memory, measured in the same run. Engine: the loop without HTTP, free requests and as many under a schema, 128 tokens
in. transformers: `generate_batch` on the same prompts with its defaults, greedy, after a warm-up of its own.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig

from benchmarks import engine, forward
from benchmarks.random_llama import SHAPES, random_llama
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import ModelInfo, Stats
from engine.model import ModelRunner, RunnerConfig
from engine.process import build

_PAGE = 16
_REPEATS = 40


def forward_table(folder: Path, batches: Sequence[int], context: int, dtype: str) -> None:
    """Prints a line for each number of sequences."""
    pages = (max(batches) + 1) * -(-context // _PAGE)
    runner = ModelRunner(
        RunnerConfig(path=str(folder), device="cuda", pages=pages, page_size=_PAGE, cache_dtype=dtype)  # type: ignore[arg-type]
    )
    info = runner.info
    print(
        f"{info.parameters / 1e9:.2f}B parameters, {info.dtype}, cache {dtype}, {torch.cuda.get_device_name()}, "
        f"torch {torch.__version__}, reads {info.memory_bandwidth / 1e12:.2f} TB/s; context {context}"
    )
    print(f"{'decode':>8} {'ms':>8} {'GB':>7} {'TB/s':>6} {'share':>6}")
    for count in batches:
        batch = forward.step([1] * count, [context] * count)
        for _ in range(3):
            runner.run(batch)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(_REPEATS):
            runner.run(batch)
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - began) / _REPEATS
        read = info.weight_bytes + count * context * info.token_bytes
        rate = read / seconds
        print(
            f"{count:>8} {1e3 * seconds:8.2f} {read / 1e9:7.2f} {rate / 1e12:6.2f} {rate / info.memory_bandwidth:6.0%}",
            flush=True,
        )


def share_of(info: ModelInfo, before: Stats, after: Stats) -> float:
    """What the engine's decode steps read in their time, host and sampling included, over what the device could."""
    seconds = after.decode_s - before.decode_s
    return (after.decode_bytes - before.decode_bytes) / seconds / info.memory_bandwidth if seconds else 0.0


def engine_table(folder: Path, batches: Sequence[int], tokens: int) -> dict[int, float]:
    """Prints a line for each concurrency, free and constrained; returns the free tokens a second."""
    rooms = build(EngineConfig(model=str(folder), device="cuda", cache_bytes=8 << 30, max_batch_tokens=4096))
    loop = EngineLoop(rooms, time.monotonic)
    plan = engine.plan_of(folder, rooms.info.vocab_size, rooms.info.eos_token_ids)
    loop.load_grammar(plan)
    engine.run(loop, engine.requests_of(2, 64, plan.fingerprint, True))
    print(engine.HEADER + f" {'share':>6}")
    found: dict[int, float] = {}
    for count in batches:
        for name, fingerprint in (("free", None), ("schema", plan.fingerprint)):
            result = engine.run(loop, engine.requests_of(count, tokens, fingerprint, True))
            share = share_of(rooms.info, result.before, result.after)
            print(f"{result.row(f'{name} x {count}')} {share:6.0%}", flush=True)
            if fingerprint is None:
                found[count] = result.tokens / result.seconds
    return found


def transformers_rates(folder: Path, batches: Sequence[int], tokens: int) -> dict[int, float]:
    """Tokens a second of transformers' continuous batching."""
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=torch.bfloat16, device_map="cuda").eval()
    kind: Any = GenerationConfig
    settings = kind(max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0)
    found: dict[int, float] = {}
    for count in batches:
        prompts = [request.prompt for request in engine.requests_of(count, tokens, None, True)]
        times = []
        for _ in range(2):  # the first one records and allocates
            began = time.perf_counter()
            made = model.generate_batch(prompts, generation_config=settings, persistent_manager=True)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        produced = sum(len(each.generated_tokens) for each in made.values())
        found[count] = produced / times[-1]
        print(
            f"transformers {transformers.__version__} x {count}: {found[count]:9.1f} tokens/s ({produced})", flush=True
        )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command's entry."""
    parser = argparse.ArgumentParser(prog="formwork bench device", description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--model", help="a folder instead")
    parser.add_argument("--batches", default="1,8,32,64")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--cache-dtype", default="auto", choices=["auto", "bfloat16", "fp8"])
    parser.add_argument("--no-engine", action="store_true")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args(list(sys.argv[1:] if arguments is None else arguments))
    if not torch.cuda.is_available():
        print("formwork bench device: torch finds no CUDA device here", file=sys.stderr)
        return 1
    batches = [int(part) for part in options.batches.split(",")]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(options.model) if options.model else random_llama(Path(made), options.shape, "cuda")
        forward_table(folder, batches, options.context, options.cache_dtype)
        _free()
        ours = {} if options.no_engine else engine_table(folder, batches, options.tokens)
        _free()
        theirs = {} if options.no_peer else transformers_rates(folder, [b for b in batches if b >= 32], options.tokens)
        for count in ours.keys() & theirs.keys():
            print(f"x {count}: {ours[count] / theirs[count]:.2f} times transformers' continuous batching")
    return 0


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    raise SystemExit(main())
