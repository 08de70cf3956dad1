"""How fast and how right are token masks for JSON schemas? Formwork beside its peers, in one run on one core.

    formwork bench grammar --data FOLDER --sample 300 --engines formwork,llguidance

FOLDER holds MaskBench's files ({"schema": …, "tests": [{"data": …, "valid": …}]}, one a file); a .jsonl or .jsonl.xz of
such objects will do, and without --data the schemas beside this file are used. Every instance is written as json.dumps
writes it, cut by the 131k tokenizer, and fed token by token; it counts as accepted when every token was in the mask and
taken and an end token is legal after the last. A schema is right when all its instances come out as they should.

Each engine compiles and walks in forked processes, a group of schemas each; a schema that exceeds the time or memory
limit costs its process, and the rest of its group goes on in a new one. Times are CPU times of that process, less the
cost of reading the clock. Warm: the same instances again over the same compiled schema.
"""

import argparse
import gc
import json
import lzma
import os
import platform
import random
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grammar_engines import END, ENGINES, Engine, Row, Start, Tokenizer, empty_row, load_tokenizer
from benchmarks.grammar_soak import soak

BUNDLED = Path(__file__).parent / "schemas.json"
WARM_UP = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@dataclass(frozen=True, slots=True)
class Case:
    """A schema and instances that it should and should not accept."""

    name: str
    schema: Any
    tests: list[dict[str, Any]]


@dataclass(slots=True)
class Result:
    """What one engine did with one case; times in nanoseconds of CPU."""

    name: str
    outcome: str = "done"  # or refused, timeout, memory, crash
    detail: str = ""
    verdicts: list[tuple[bool, bool]] = field(default_factory=list)  # (valid, accepted) per instance
    first_mask: int | None = None
    cold: list[int] = field(default_factory=list)
    warm: list[int] = field(default_factory=list)

    def right(self, instances: int) -> bool:
        """Did every instance come out as it should?"""
        return len(self.verdicts) == instances and all(valid == accepted for valid, accepted in self.verdicts)


# ---------------------------------------------------------------- cases


def load_cases(source: Path) -> list[Case]:
    """From a folder of files, a file of lines, or a JSON list."""
    if source.is_dir():
        found = [{"name": path.stem, **json.loads(path.read_text())} for path in sorted(source.glob("*.json"))]
    elif ".jsonl" in source.name:
        raw = source.read_bytes()
        text = lzma.decompress(raw) if source.suffix == ".xz" else raw
        found = [json.loads(line) for line in text.splitlines()]
    else:
        found = json.loads(source.read_text())
    return [Case(entry["name"], entry["schema"], entry["tests"]) for entry in found]


def family(name: str) -> str:
    """What stands before `---`, else before the first `_`."""
    head, dashes, _ = name.partition("---")
    return head if dashes else name.partition("_")[0]


def sampled(cases: list[Case], size: int | None, seed: int) -> list[Case]:
    """So many cases, families in proportion, in random order (a drift of the machine falls on all families alike)."""
    chooser = random.Random(seed)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(family(case.name), []).append(case)
    share = 1.0 if size is None else min(1.0, size / len(cases))
    picked = [c for group in groups.values() for c in chooser.sample(group, max(1, round(share * len(group))))]
    chooser.shuffle(picked)
    return picked[:size]


# ---------------------------------------------------------------- in the worker


def reading_cost() -> int:
    """CPU nanoseconds that two readings of the clock show with nothing between them."""
    costs = []
    for _ in range(1001):
        before = time.process_time_ns()
        costs.append(time.process_time_ns() - before)
    return sorted(costs)[500]


def generation(start: Start, row: Row, ids: list[int], times: list[int], cost: int) -> bool:
    """Feed the tokens; whether all were legal and the text may end. Only mask and take are timed."""
    steps, words, clock = start(), row.view(np.uint32), time.process_time_ns
    mask, take = steps.mask, steps.take
    for token in ids:
        before = clock()
        mask()
        taken = take(token)
        times.append(max(0, clock() - before - cost))
        if not (taken and int(words[token >> 5]) >> (token & 31) & 1):
            if steps.broken():
                raise RuntimeError(steps.broken())
            return False
    steps.mask()
    return bool(int(words[END >> 5]) >> (END & 31) & 1)


def measure(engine: Engine, tokenizer: Tokenizer, row: Row, case: Case, cost: int) -> Result:
    """Compile, first mask, all instances cold, all again warm."""
    result = Result(case.name)
    texts = [json.dumps(test["data"], ensure_ascii=False) for test in case.tests]
    cut = [tokenizer.encode(text) for text in texts]
    gc.collect()
    before = time.process_time_ns()
    try:
        start = engine.compile(case.schema)
        start().mask()
    except Exception as refusal:
        result.outcome, result.detail = "refused", f"{type(refusal).__name__}: {refusal}"[:300]
        return result
    result.first_mask = time.process_time_ns() - before
    for test, ids in zip(case.tests, cut, strict=True):
        try:
            accepted = generation(start, row, ids, result.cold, cost)
        except Exception as failure:
            accepted, result.detail = not test["valid"], f"{type(failure).__name__}: {failure}"[:300]
        result.verdicts.append((bool(test["valid"]), accepted))
    for ids in cut:
        try:
            generation(start, row, ids, result.warm, cost)
        except Exception as failure:
            result.detail = f"warm: {type(failure).__name__}: {failure}"[:300]
    return result


def work(engine: Engine, tokenizer: Tokenizer, row: Row, cases: Sequence[Case], out: int) -> None:
    """The worker: a warm-up, then a line per case."""
    gc.disable()
    cost = reading_cost()
    measure(engine, tokenizer, row, Case("warm-up", WARM_UP, [{"data": {"a": "warming up"}, "valid": True}]), cost)
    with os.fdopen(out, "w") as pipe:
        for case in [None, *cases]:  # the first line says that the clock may start
            line = {} if case is None else asdict(measure(engine, tokenizer, row, case, cost))
            pipe.write(json.dumps(line) + "\n")
            pipe.flush()


# ---------------------------------------------------------------- in the parent


@dataclass(frozen=True, slots=True)
class Limits:
    """Per schema."""

    seconds: float
    bytes: int


def statistics_of(pid: int) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


class Worker:
    """A forked process that works through cases and is killed when one exceeds its limits."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, row: Row, cases: Sequence[Case]) -> None:
        self.pipe, end = os.pipe()
        self.buffer = b""
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.pipe)
                work(engine, tokenizer, row, cases, end)
            finally:
                os._exit(0)
        os.close(end)

    def line(self, limits: Limits) -> dict[str, Any] | str:
        """The next line; or why none comes."""
        began, (cpu, resident) = time.monotonic(), statistics_of(self.pid)
        while b"\n" not in self.buffer:
            if select.select([self.pipe], [], [], 0.05)[0]:
                chunk = os.read(self.pipe, 1 << 20)
                if not chunk:
                    return "crash"
                self.buffer += chunk
                continue
            used, now = statistics_of(self.pid)
            if now - resident > limits.bytes:
                return "memory"
            if used - cpu > limits.seconds or time.monotonic() - began > 10 * limits.seconds:
                return "timeout"
        line, _, self.buffer = self.buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Stop it and forget it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pipe)


def run(engine: Engine, tokenizer: Tokenizer, row: Row, cases: list[Case], limits: Limits) -> Iterator[Result]:
    """Results in order; a new process after every failure and after every fifty cases."""
    done = 0
    while done < len(cases):
        group = cases[done : done + 50]
        worker = Worker(engine, tokenizer, row, group)
        if worker.line(Limits(300, 8 << 30)) != {}:
            raise SystemExit(f"{engine.name} did not start")
        for case in group:
            line = worker.line(limits)
            done += 1
            yield Result(case.name, outcome=line) if isinstance(line, str) else Result(**line)
            if isinstance(line, str):
                break
        worker.end()


# ---------------------------------------------------------------- the table


def at(values: list[int], share: float) -> int:
    """The value at that share of the sorted list."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def spread(values: list[int], shares: tuple[float, ...], *, mean: bool) -> str:
    """Mean and percentiles in microseconds."""
    if not values:
        return "–"
    figures = [sum(values) / len(values)] * mean + [at(values, share) for share in shares]
    return " / ".join(f"{figure / 1000:,.0f}" if figure >= 10_000 else f"{figure / 1000:,.1f}" for figure in figures)


def column(cases: list[Case], results: list[Result], limits: Limits) -> dict[str, str]:
    """One engine's figures."""
    tested = [(case, result) for case, result in zip(cases, results, strict=True) if case.tests]
    verdicts = [verdict for result in results for verdict in result.verdicts]
    outcomes = [result.outcome for result in results]
    firsts = [result.first_mask for result in results if result.first_mask is not None]
    firsts += [int(limits.seconds * 1e9)] * outcomes.count("timeout")
    cold, warm = [t for r in results for t in r.cold], [t for r in results for t in r.warm]
    shares = (0.5, 0.9, 0.99, 1.0)
    right = sum(result.right(len(case.tests)) for case, result in tested)
    shut = sum(valid and not accepted for valid, accepted in verdicts)
    through = sum(accepted and not valid for valid, accepted in verdicts)
    return {
        "all instances of the schema right": f"{100 * right / max(1, len(tested)):.1f} % of {len(tested)}",
        "refused / timeout / memory / crash": " / ".join(
            str(outcomes.count(kind)) for kind in ("refused", "timeout", "memory", "crash")
        ),
        "valid instances shut out": f"{shut} of {sum(valid for valid, _ in verdicts)}",
        "invalid instances let through": f"{through} of {sum(not valid for valid, _ in verdicts)}",
        "masks": f"{len(cold):,}",
        "mask + advance, cold, µs: mean / p50 / p90 / p99 / max": spread(cold, shares, mean=True),
        "the same, warm": spread(warm, shares, mean=True),
        "compile + first mask, µs: p50 / p90 / p99 / max": spread(firsts, shares, mean=False),
    }


def print_table(columns: dict[str, dict[str, str]]) -> None:
    """Markdown, a column per engine."""
    labels = list(next(iter(columns.values())))
    print(f"| | {' | '.join(columns)} |")
    print("|:--|" + "--:|" * len(columns))
    for label in labels:
        print(f"| {label} | {' | '.join(found[label] for found in columns.values())} |")


def hardware() -> str:
    """Processor and interpreter."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, one core; Python {platform.python_version()}, numpy {np.__version__}"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="formwork bench grammar", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=BUNDLED, help="a MaskBench folder, or a .jsonl(.xz) or .json file")
    parser.add_argument("--sample", type=int, help="so many schemas, families in proportion (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", default="formwork,llguidance", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time limit per schema")
    parser.add_argument("--gibibytes", type=float, default=1.0, help="memory limit per schema")
    parser.add_argument("--failures", action="store_true", help="list what was not right")
    parser.add_argument("--out", type=Path, help="write every result as JSON")
    parser.add_argument(
        "--soak", type=int, metavar="TOKENS", help="instead: random texts of one schema, and the memory"
    )
    parser.add_argument("--megabytes", type=int, default=64, help="with --soak: the grammar's limit on bytes")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the engines one after the other and print the table."""
    options = arguments(argv)
    if options.soak is not None:
        return soak(options.soak, options.megabytes, options.seed)
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    tokenizer = load_tokenizer()
    tokenizer.encode("the encoder loads at first use")
    cases = sampled(load_cases(options.data), options.sample, options.seed)
    limits = Limits(options.seconds, int(options.gibibytes * 2**30))
    print(f"{hardware()}; {len(tokenizer.tokens):,} tokens; {len(cases)} schemas, seed {options.seed}")
    columns, everything = {}, {}
    for name in options.engines.split(","):
        row = empty_row(tokenizer)
        engine = ENGINES[name](tokenizer, row)
        print(f"{engine.name}: {engine.settings}", flush=True)
        gc.collect()
        gc.freeze()
        results = list(run(engine, tokenizer, row, cases, limits))
        columns[engine.name] = column(cases, results, limits)
        everything[engine.name] = [asdict(result) for result in results]
        if options.failures:
            for case, result in zip(cases, results, strict=True):
                if not result.right(len(case.tests)):
                    print(f"  {case.name}: {result.outcome} {result.verdicts} {result.detail}")
    print_table(columns)
    if options.out:
        options.out.write_text(json.dumps(everything))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
