"""How long is a forward pass over the paged cache, beside transformers' own? One core, no HTTP, no sampler.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.forward [MODEL]

Without MODEL: a random Llama of 125M parameters (hidden 768, 12 layers, 12 heads, 4 key heads, FFN 2048, vocabulary
32,000; seed 0) made in a temporary folder. Times are CPU time of the process, best of the repeats after one warm-up.
transformers: its default attention with a dynamic cache, sequences of equal length, so that nothing is padded.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.random_llama import random_llama
from engine.batch import StepBatch
from engine.model import ModelRunner, RunnerConfig

_PAGE = 16


def step(queries: Sequence[int], contexts: Sequence[int]) -> StepBatch:
    """Sequences over pages in random order; logits of each one's last token."""
    rng = np.random.default_rng(0)
    counts = [-(-c // _PAGE) for c in contexts]
    pages = rng.permutation(sum(counts)).astype(np.int32)
    table = np.zeros((len(contexts), max(counts)), np.int32)
    positions, slots, first = [], [], 0
    for row, count, query, context in zip(table, counts, queries, contexts, strict=True):
        row[:count] = pages[first : first + count]
        first += count
        p = np.arange(context - query, context, dtype=np.int64)
        positions.append(p)
        slots.append(row[p // _PAGE].astype(np.int64) * _PAGE + p % _PAGE)
    starts = np.cumsum([0, *queries]).astype(np.int32)
    return StepBatch(
        token_ids=rng.integers(3, 1000, sum(queries)),
        positions=np.concatenate(positions),
        query_starts=starts,
        context_lengths=np.array(contexts, np.int32),
        page_table=table,
        slots=np.concatenate(slots),
        logit_rows=(starts[1:] - 1).astype(np.int64),
    )


def best_ms(action: Callable[[], object], repeats: int) -> float:
    """CPU milliseconds of the best repeat, after one that is not counted."""
    action()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def transformers_decode_ms(model: Any, sequences: int, context: int, repeats: int) -> float:
    """One decode step of transformers' own, for equally long sequences."""
    with torch.no_grad():
        tokens = torch.randint(3, 1000, (sequences, context - 1 - repeats))
        cache = model(tokens, use_cache=True, logits_to_keep=1).past_key_values
        token = torch.randint(3, 1000, (sequences, 1))
        return best_ms(lambda: model(token, past_key_values=cache, use_cache=True), repeats)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--context", type=int, default=192)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.model is None:
            random_llama(Path(folder))
        _compare(options.model or folder, options.context, options.repeats)


def _compare(path: str, context: int, repeats: int) -> None:
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{platform.machine()}, {versions}, 1 thread, float32, context {context}")
    runner = ModelRunner(RunnerConfig(path=path, device="cpu", threads=1, pages=max(1024, 64 * context // _PAGE)))
    auto: Any = transformers.AutoModelForCausalLM
    theirs = auto.from_pretrained(path, dtype=torch.float32).eval()
    print(f"{'step':24}{'Formwork ms':>12}{'transformers ms':>17}")
    for sequences in (1, 4, 16, 64):
        batch = step([1] * sequences, [context] * sequences)
        count = repeats if sequences < 64 else max(2, repeats // 3)
        ours = best_ms(lambda batch=batch: runner.run(batch), count)  # type: ignore[misc]
        print(
            f"{f'decode {sequences}':24}{ours:12.2f}{transformers_decode_ms(theirs, sequences, context, count):17.2f}"
        )
    for length in (128, 512):
        batch = step([length], [length])
        tokens = torch.randint(3, 1000, (1, length))
        ours = best_ms(lambda batch=batch: runner.run(batch), 3)  # type: ignore[misc]
        with torch.no_grad():
            own = best_ms(lambda tokens=tokens: theirs(tokens, logits_to_keep=1), 3)  # type: ignore[misc]
        print(f"{f'prefill {length}':24}{ours:12.2f}{own:17.2f}")


if __name__ == "__main__":
    main()
