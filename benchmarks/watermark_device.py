"""What the watermark costs where logits lie on a device, and whether it makes the host's choices there.

    python -m benchmarks.watermark_device                       (on a CUDA device; 64 rows of 131,072 logits)
    TRITON_INTERPRET=1 python -m benchmarks.watermark_device --device cpu --rows 4 --width 3000 --repeats 1

Each line is one kind of step: all rows of one scheme, drawn or greedy. "agree" counts the tokens that the host's
sampler chooses too. Sums over a vocabulary round otherwise on a device, so an inverse-CDF draw may land beside the
host's once in a million; the keyed race and near ties compare, and agree. Wall time of `measure` and all draws, median.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from engine.device_sampler import DeviceSampler
from engine.drawing import Drawn, Marking, Row, Rule, Sampler
from engine.messages import Sampling
from engine.sampler import CpuSampler
from watermark import SCHEMES, Embedder, Key, Kind, scheme

KEY = Key.derive(b"benchmark of a device", id="k")
SHARE = 0.9  # of the vocabulary is legal in half of the rows


def rows_of(name: str | None, greedy: bool, count: int) -> list[Row]:
    """One request each, every second one under a grammar; `None`: no mark."""
    rows = []
    for index in range(count):
        rule = Rule.of(Sampling(max_tokens=1, seed=index, temperature=0.0 if greedy else 1.0))
        mask = 0 if index % 2 else None
        marking = None if name is None else Marking(Embedder(scheme(name), KEY), [index, 3, 5, 7], Kind.PROSE)
        rows.append(Row(rule, index, mask=mask, drawn_from=mask, marking=marking))
    return rows


def chosen(sampler: Sampler, logits: torch.Tensor, rows: Sequence[Row], masks: np.ndarray) -> list[int]:
    """The tokens of one step."""
    sampler.measure(logits, rows, masks)
    drawn = [sampler.draw(index) for index in range(len(rows))]
    return [each.token_id for each in drawn if isinstance(each, Drawn)]


def milliseconds(step: Callable[[], object], repeats: int) -> float:
    """Median wall time; two steps warm up (and compile)."""
    spent = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        step()
        spent.append(1e3 * (time.perf_counter() - started))
    return statistics.median(spent[2:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table; 1 if a token that must agree does not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--width", type=int, default=131_072)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, interpreted"
    print(f"{name}; torch {torch.__version__}; {options.rows} rows x {options.width} logits", flush=True)
    rng = np.random.default_rng(1)
    here = torch.from_numpy(3 * rng.standard_normal((options.rows, options.width)).astype(np.float32))
    there = here.to(device)
    bits = np.zeros(-(-options.width // 32) * 32, np.uint8)
    bits[: options.width] = rng.random(options.width) < SHARE
    masks = np.packbits(bits, bitorder="little").view(np.int32)[None, :]
    on_host, on_device = CpuSampler(options.width), DeviceSampler(options.width, device)
    print("| scheme | temperature | agree | ms a step | beyond unmarked | |", flush=True)
    failed = False
    for greedy in (False, True):
        plain = 0.0
        for each in (None, *SCHEMES):
            if each is not None and greedy and not scheme(each).marks_greedy:
                continue
            rows = rows_of(each, greedy, options.rows)
            agree = sum(
                ours == theirs
                for ours, theirs in zip(
                    chosen(on_host, here, rows, masks), chosen(on_device, there, rows, masks), strict=True
                )
            )
            spent = milliseconds(partial(chosen, on_device, there, rows, masks), options.repeats)
            plain = spent if each is None else plain
            least = options.rows if greedy or each == "gumbel" else options.rows - max(1, options.rows // 32)
            failed |= agree < least
            verdict = "PASS" if agree >= least else "FAIL"
            cells = (each or "none", 0 if greedy else 1, f"{agree}/{options.rows}", f"{spent:.2f}")
            print("| " + " | ".join(map(str, (*cells, f"{spent - plain:+.2f}", verdict))) + " |", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
