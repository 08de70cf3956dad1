"""Does the watermark keep its word? False positives, power, edits and promises, on real text or on a toy language.

    formwork bench watermark                     the bundled model (three quarters of an hour)
    formwork bench watermark --source toy        the toy language (minutes)

Every table says what it was measured on. "grammar" scores the free choices that the replay finds, "whole text" every
token with whatever stands before it: what a detector does that knows neither schema nor grammar. "commonplaces out" is
the detector as it is served: what many other unmarked texts say is not counted (the list is the model's own; where it
has none, one is made of as many other documents). Power, promises and edits are those of this detector too.
"""

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.engine_text import EngineWriter
from benchmarks.marked_text import EDITS, Document, Marking, ToyWriter, Writer
from benchmarks.watermark_cost import costs
from benchmarks.watermark_evidence import Corpus, Found, found_under_own_key, promised_power, span_of
from watermark import KeyRing, Position, Scheme, default_scheme
from watermark.commonplaces import Commonplaces
from watermark.gathering import gather
from watermark.scan import marked_passages

TABLES = ("null", "agreement", "power", "promises", "prose", "edits", "cost")
OF_DOCUMENTS = {"agreement", "power", "promises", "edits"}
TASKS = ("descriptions", "extractions")
COUNTS = (10, 25, 50, 100, 200)
Reading = Callable[[Document], Sequence[Position]]
READINGS: dict[str, Reading] = {
    "grammar": lambda document: document.free,
    "whole text": lambda document: document.everything,
}
DEFAULTS = tuple(default_scheme(greedy=greedy) for greedy in (False, True))
NOMINAL = (1e-2, 1e-3)
CHANCE = "open: short of the bar by less than two standard errors"
OWN = "grammar, commonplaces out"

Marked = Mapping[str, Sequence[Document]]
"""Documents by the id of the key that marked them."""


@dataclass(frozen=True)
class Bench:
    """One run. Every key is tried on the unmarked documents and marks `share` texts of its own.

    Texts under one key share its luck, whatever their number; so what is told of marked text is a mean over keys, and
    its error is that of the keys' means.
    """

    writer: Writer
    ring: KeyRing
    documents: int
    share: int

    @cached_property
    def _common(self) -> Commonplaces:
        return self.writer.commonplaces or Commonplaces(DEFAULTS[0].widths, frozenset())

    def _judged(self, documents: Sequence[Document], scheme: Scheme) -> list[Document]:
        """With the choices that the detector counts."""
        return [_without(document, self._common, scheme) for document in documents]

    def run(self, tables: Sequence[str]) -> None:
        """The tables asked for."""
        for scheme in DEFAULTS:
            if "null" in tables:
                self.null(scheme)
        if set(tables) <= {"null"}:
            return
        for scheme in DEFAULTS:
            documents = self._marked(scheme, self.writer.documents, seed=1) if set(tables) & OF_DOCUMENTS else {}
            if "agreement" in tables:
                self.agreement(scheme, documents)
            if "power" in tables:
                self.power(scheme, documents)
            if "promises" in tables:
                self.promises(scheme, documents, "documents")
            if "prose" in tables:
                self.promises(scheme, self._marked(scheme, self.writer.prose, seed=2), "prose texts")
            if "edits" in tables:
                self.edits(scheme, documents)

    def _marked(
        self, scheme: Scheme, write: Callable[[int, Marking | None, int], list[Document]], seed: int
    ) -> dict[str, list[Document]]:
        # No two keys are asked the same: a task that is easy or hard would be so for all of them.
        numbered = enumerate(self.ring.ids, 1000 * seed)
        return {key: write(self.share, Marking(scheme.name, key), number) for number, key in numbered}

    def null(self, scheme: Scheme) -> None:
        """False positives per key, on unmarked documents from the same source."""
        documents = self.writer.documents(self.documents, None, 3, greedy=scheme.marks_greedy)
        heading(f"False positives of {scheme.name}: {len(documents)} unmarked documents, {len(self.ring.ids)} keys")
        common = self.writer.commonplaces
        if common is None:
            others = self.writer.documents(self.documents, None, 6, greedy=scheme.marks_greedy)
            common = Commonplaces.of([each.free for each in others], scheme)
        kept = common
        readings: dict[str, Reading] = {**READINGS, OWN: lambda document: kept.without(document.free, scheme)}
        row("reading", "scored", "pooled 1e-2", "1e-3", "worst key 1e-2", "1e-3", "keys above*", "KS p", "bar")
        for name, reading in readings.items():
            corpus = Corpus([reading(document) for document in documents], scheme)
            found = [corpus.found(self.ring, key) for key in self.ring.ids]
            rng = np.random.default_rng(4)
            values = np.array([each.randomised_p(rng) for each in found])
            rates = [(values <= alpha).mean(axis=1) for alpha in NOMINAL]
            above = sum(low_end(row <= alpha) > alpha for alpha in NOMINAL for row in values)
            near = all(abs(rate.mean() / alpha - 1.0) <= 0.2 for rate, alpha in zip(rates, NOMINAL, strict=True))
            uniform = stats.kstest(values.ravel(), "uniform").pvalue
            row(
                *(name, f"{found[0].counts.mean():.0f}"),
                *(f"{rate.mean():.5f}" for rate in rates),
                *(f"{rate.max():.4f}" for rate in rates),
                *(str(above), f"{uniform:.3f}"),
                verdict(above == 0 and near and uniform > 1e-3) if name == OWN else "-",
            )
        say("* lower end of the 99.9 % Clopper-Pearson interval above nominal, at either rate; steps of p randomised")

    def power(self, scheme: Scheme, documents: Marked) -> None:
        """Found at 1e-3 and 1e-5 by number of free choices, with the grammar and without.

        √(T/F) supposes that what is not scored bears no mark. Commonplaces bear it, so what the grammar itself gains is
        seen where both readings count them; what is served does not.
        """
        spans = len(documents) * self.share
        heading(f"Power of {scheme.name}: {spans} spans resampled from as many documents, {len(documents)} keys")
        row(
            "commonplaces",
            "free F",
            "tokens T",
            "z grammar",
            "z whole",
            "ratio",
            "0.9·√(T/F)",
            "bar",
            "at 1e-3 (whole)",
            "at 1e-5 (whole)",
        )
        served = {key: self._judged(own, scheme) for key, own in documents.items()}
        told: dict[str, Marked] = {"out": served, "counted": documents}
        for (name, texts), count in product(told.items(), COUNTS):
            free, whole = self._spans(scheme, texts, count)
            ratio = free.z.mean() / whole.z.mean()
            wanted = 0.9 * math.sqrt(whole.counts.mean() / free.counts.mean())
            gain = free.z - wanted * whole.z
            error = _error(gain, [self.share] * len(documents))
            row(
                *(name, *(f"{each.counts.mean():.0f}" for each in (free, whole))),
                *(f"{each.z.mean():.2f}" for each in (free, whole)),
                *(f"{ratio:.2f}", f"{wanted:.2f}", verdict(ratio >= wanted, chance=gain.mean() >= -2.0 * error)),
                *(f"{share(free.log_p, alpha):.3f} ({share(whole.log_p, alpha):.3f})" for alpha in (1e-3, 1e-5)),
            )
        say(CHANCE)

    def _spans(self, scheme: Scheme, documents: Marked, count: int) -> tuple[Found, Found]:
        spans = {
            key: [span_of(own, scheme, count, np.random.default_rng((5, number, n))) for n in range(self.share)]
            for number, (key, own) in enumerate(documents.items())
        }
        free = found_under_own_key({key: [s.free for s in own] for key, own in spans.items()}, scheme, self.ring)
        whole = found_under_own_key({key: [s.everything for s in own] for key, own in spans.items()}, scheme, self.ring)
        return free, whole

    def promises(self, scheme: Scheme, documents: Marked, kind: str) -> None:
        """expected_p against what the detector finds, and the power that it promised."""
        judged = {key: self._judged(own, scheme) for key, own in documents.items()}
        told = {key: [each for each in own if each.promised_p is not None] for key, own in judged.items()}
        texts = {key: [each.free for each in own] for key, own in told.items()}
        found = found_under_own_key(texts, scheme, self.ring)
        promised = np.log([each.promised_p or 1.0 for own in told.values() for each in own])
        pairs = zip(promised, found.counts, strict=True)
        power = np.array([promised_power(scheme, float(log_p), int(n), math.log(1e-5)) for log_p, n in pairs])
        hit, sure = found.log_p <= math.log(1e-5), promised <= -40.0
        apart = promised.mean() / found.log_p.mean() - 1.0
        # How far apart by chance: the promises are known, what is found hangs on each key's luck.
        error = _error(promised - found.log_p, [len(own) for own in told.values()]) / -found.log_p.mean()
        heading(f"Promise of {scheme.name} on {len(promised)} {kind} of {found.counts.mean():.0f} scored choices")
        row(
            "mean log p promised", "found", "apart", "bar", "power at 1e-5 promised", "found", "bar", "≥ 40 nats", "bar"
        )
        row(
            *(
                f"{promised.mean():.2f}",
                f"{found.log_p.mean():.2f}",
                f"{apart:+.1%} ± {error:.1%}",
                verdict(abs(apart) <= 0.1, chance=abs(apart) <= 0.1 + 2.0 * error),
            ),
            *(f"{power.mean():.3f}", f"{hit.mean():.3f}", verdict(not_below(hit, 0.95 * power.mean()))),
            f"{hit[sure].mean():.3f} of {sure.sum()}" if sure.any() else "none",
            verdict(not_below(hit[sure], 0.99)) if sure.any() else "-",
        )
        say(f"a share misses its bar where it lies below it by more than chance (binomial, one-sided 2.5 %); {CHANCE}")

    def agreement(self, scheme: Scheme, documents: Marked) -> None:
        """The free choices that a reader of the text finds again, which tokenises it anew."""
        if not isinstance(self.writer, EngineWriter):
            return
        unmarked = self.writer.documents(200, None, 7, greedy=scheme.marks_greedy)
        heading(f"Emitted and re-tokenised text, {scheme.name}")
        row("text", "free choices", "found again in place", "bar")
        for name, texts in (("marked", [each for own in documents.values() for each in own]), ("unmarked", unmarked)):
            again, total = self.writer.agreement(texts)
            row(name, str(total), f"{again / total:.4f}", verdict(again >= 0.99 * total) if name == "marked" else "-")

    def edits(self, scheme: Scheme, documents: Marked) -> None:
        """What is left of the mark; five documents at a time, since one is short."""
        heading(f"Edits of documents marked with {scheme.name}, five at a time")
        row("edit", "scored", "median log10 p", "found at 1e-3", "at 1e-5", "by the scan at 1e-3")
        for edit in EDITS:
            edited = {key: self._edited(own, edit) for key, own in documents.items()}
            kept = {key: [self._common.without(text, scheme) for text in own] for key, own in edited.items()}
            self._edit_row(scheme, edit, kept)
            if edit == "none" and self._common.sayings:
                self._edit_row(scheme, "none; commonplaces counted too", edited)

    def _edit_row(self, scheme: Scheme, name: str, texts: Mapping[str, Sequence[Sequence[Position]]]) -> None:
        found = found_under_own_key(texts, scheme, self.ring)
        keys = [(self.ring.key(key), text) for key, own in texts.items() for text in own]
        scanned = np.mean([bool(marked_passages(text, scheme, key)) for key, text in keys])
        row(
            *(name, f"{found.counts.mean():.0f}", f"{np.median(found.log_p) / math.log(10):.1f}"),
            *(f"{share(found.log_p, alpha):.3f}" for alpha in (1e-3, 1e-5)),
            f"{scanned:.3f}",
        )

    def _edited(self, documents: Sequence[Document], edit: str) -> list[list[Position]]:
        groups = [documents[n : n + 5] for n in range(0, len(documents) - 4, 5)]
        edited = [[self.writer.edited(each, edit, n) for each in group] for n, group in enumerate(groups)]
        return [[position for each in group for position in each.free] for group in edited]


def cost(model: str, secrets: Mapping[str, bytes]) -> None:
    """With the mark and without, through the engine."""
    heading("Cost at concurrency 16")
    with tempfile.TemporaryDirectory() as place:
        keys = Path(place) / "keys.json"
        keys.write_text(json.dumps({"keys": {key: secret.hex() for key, secret in secrets.items()}}))
        costs(model, str(keys), row)


def _without(document: Document, common: Commonplaces, scheme: Scheme) -> Document:
    kept = gather(document.free, scheme, common.leave_out).places
    free, places = (tuple(values[place] for place in kept) for values in (document.free, document.places))
    return replace(document, free=free, places=places)


def _error(values: NDArray[np.float64], counts: Sequence[int]) -> float:
    """Standard error of the mean of values that come key by key, so many of each."""
    keys = np.repeat(np.arange(len(counts)), counts)
    strays = np.bincount(keys, values - values.mean(), len(counts))
    return float(np.sqrt((strays**2).sum()) / len(values))


def low_end(hits: NDArray[np.bool_]) -> float:
    """Lower end of the two-sided 99.9 % Clopper-Pearson interval of a share."""
    return float(stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.999, "exact").low)


def not_below(hits: NDArray[np.bool_], bar: float) -> bool:
    """Whether so few hits are still to be expected of a share at the bar."""
    return float(stats.binom.cdf(int(hits.sum()), len(hits), bar)) > 0.025


def share(log_p: NDArray[np.float64], alpha: float) -> float:
    """The share found at this level."""
    return float((log_p <= math.log(alpha)).mean())


def verdict(passed: object, *, chance: object = False) -> str:
    """As the tables show it; `chance`: the figure does not tell it from one that passes."""
    return "met" if passed else "open" if chance else "MISSED"


def heading(text: str) -> None:
    """Before a table."""
    print(f"\n## {text}\n", flush=True)


def row(*cells: str) -> None:
    """One line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def say(text: str) -> None:
    """Below a table."""
    print(f"\n{text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="formwork bench watermark", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", choices=("toy", "model"), default="model", help="where the text comes from")
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=TASKS,
        help="what the model is asked: texts of one schema that are all alike, or extractions under as many schemas",
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="which to print")
    parser.add_argument("--model", default="models/formwork-mini", help="folder of the model")
    parser.add_argument(
        "--commonplaces", default="", help="the detector's list; default: the model's own, else made of other documents"
    )
    parser.add_argument("--documents", type=int, default=2000, help="unmarked documents")
    parser.add_argument(
        "--keys", type=int, default=60, help="keys tried on them: with 20, chance alone moves the pooled 1e-3 by 16 %%"
    )
    parser.add_argument(
        "--share", type=int, default=25, help="marked documents of each key, and as many spans made of them"
    )
    options = parser.parse_args(arguments)
    # Fixed secrets: a benchmark is run again to see the same numbers.
    secrets = {f"key-{n}": f"benchmark secret number {n}".encode() for n in range(options.keys)}
    ring = KeyRing(secrets)
    started = time.perf_counter()
    if "cost" in options.tables and options.source == "model":
        cost(options.model, secrets)
    if list(options.tables) == ["cost"]:
        return 0
    tables = list(options.tables)
    for tasks in options.tasks if options.source == "model" else ["toy"]:
        writer: Writer = (
            ToyWriter(ring)
            if tasks == "toy"
            else EngineWriter(options.model, ring, secrets, tasks, options.commonplaces)
        )
        say(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; source: {writer.name}")
        Bench(writer, ring, options.documents, options.share).run(tables)
        tables = [table for table in tables if table != "prose"]  # the same whatever else is asked
    say(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
