"""Does a constraint, or the watermark, change what the model says?

    formwork bench fidelity                      the bundled model (minutes)
    formwork bench fidelity --draws 500 --documents 100

First table: whole outputs under a constraint against the exact distribution, which transformers' own forward pass and
an enumeration of the token sequences give (no automaton, no mask, no paged cache). Sequences expected less than five
times are pooled. "guesses" compares runs with and without guessing at forced text, seed by seed.

Second table: extractions with and without the mark (gumbel at temperature 1, kgw at 0), paired by seed. A value depends
on the text before it, so values behind a marked string may differ; the question is whether they are right less often
(McNemar, exact).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from transformers import LlamaForCausalLM

from benchmarks.engine_text import Answer, EngineWriter
from benchmarks.marked_text import Document, Marking
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.messages import Failure, Generate, Output, Plan, Sampling
from engine.process import build
from engine.tokenizer import Tokenizer
from grammar import Grammar, Vocabulary, compile_choice, compile_json_schema, compile_regex
from models.training.data import held_out_extractions
from service.chat import ChatTemplate, Conversation
from watermark import KeyRing

Compiler = Callable[[Vocabulary], Grammar]
_LABELS: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad", "neutral"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Case:
    """A prompt, a constraint and every text that satisfies it."""

    name: str
    prompt: str
    language: list[bytes]
    compile: Compiler


CASES = (
    Case(
        "choices",
        "Is a broken bridge good, bad, or neither? Answer with one word.",
        [b"good", b"bad", b"neither", b"neutral", b"goodness"],
        lambda vocabulary: compile_choice(["good", "bad", "neither", "neutral", "goodness"], vocabulary),
    ),
    Case(
        "regex",
        "How many pages has the letter? Two digits.",
        [f"{tens}{ones}".encode() for tens in "123" for ones in "0123456789"] + [b"7", b"8", b"9"],
        lambda vocabulary: compile_regex("[1-3][0-9]|[7-9]", vocabulary),
    ),
    Case(
        "schema",
        "Classify as JSON: the soup was cold and nobody came.",
        [
            json.dumps({"label": label, "sure": sure}).encode()
            for label in ("good", "bad", "neutral")
            for sure in (True, False)
        ],
        lambda vocabulary: compile_json_schema(_LABELS, vocabulary, property_order="schema", whitespace="spaced"),
    ),
)


@dataclass
class Reference:
    """Transformers' model, and the language as a list."""

    model: LlamaForCausalLM
    tokens: Sequence[bytes]
    ends: frozenset[int]
    rarest: float
    found: dict[tuple[int, ...], float] = field(default_factory=dict)

    def distribution(self, prompt: Sequence[int], language: Sequence[bytes]) -> dict[tuple[int, ...], float]:
        """Each token sequence likelier than `rarest`."""
        self.found = {}
        self._walk(list(prompt), language, (), b"", 1.0)
        return self.found

    def _walk(
        self, prompt: list[int], language: Sequence[bytes], said: tuple[int, ...], text: bytes, chance: float
    ) -> None:
        legal = [
            token
            for token, spelt in enumerate(self.tokens)
            if (spelt and any(member.startswith(text + spelt) for member in language))
            or (token in self.ends and text in language)
        ]
        if set(legal) <= self.ends:
            self.found[said] = self.found.get(said, 0.0) + chance
            return
        for token, share in zip(legal, self._shares([*prompt, *said], legal), strict=True):
            if chance * share < self.rarest:
                continue
            if token in self.ends:
                self.found[said] = self.found.get(said, 0.0) + chance * share
            else:
                longer = text + self.tokens[token]
                members = [member for member in language if member.startswith(longer)]
                self._walk(prompt, members, (*said, token), longer, chance * share)

    def _shares(self, context: list[int], legal: list[int]) -> list[float]:
        with torch.inference_mode():
            logits = self.model(torch.tensor([context])).logits[0, -1, legal].double()
        shares: list[float] = torch.softmax(logits, 0).tolist()
        return shares


class Machine:
    """The engine's loop in this process."""

    def __init__(self, folder: str, *, drafts: bool) -> None:
        rooms = build(EngineConfig(model=folder, max_waiting=1 << 20, device="cpu", speculate=16 if drafts else 0))
        self.loop = EngineLoop(rooms, time.monotonic)
        self.tokenizer = Tokenizer.load(folder)
        self.ends = frozenset((*rooms.info.eos_token_ids, *self.tokenizer.eos_token_ids))
        self.vocabulary = Vocabulary(
            self.tokenizer.padded_bytes(rooms.info.vocab_size), list(self.ends), self.tokenizer.special_tokens
        )
        template = self.tokenizer.chat_template
        assert template is not None, "the benchmark prompts a chat model"
        self._template = ChatTemplate(template, self.tokenizer)

    def prompt(self, content: str) -> list[int]:
        """As the service renders it."""
        return self._template.prompt(
            Conversation(messages=[{"role": "user", "content": content}], response_format=None)
        )

    def draws(self, prompt: list[int], grammar: Grammar, count: int) -> list[tuple[int, ...]]:
        """The outputs of the seeds 0 … count − 1, end tokens left out."""
        for seed in range(count):
            self.loop.load_grammar(Plan(grammar.fingerprint, grammar.to_bytes()))
            sampling = Sampling(max_tokens=60, seed=seed, temperature=1.0)
            request = Generate(request_id=str(seed), prompt=prompt, sampling=sampling, grammar=grammar.fingerprint)
            for event in self.loop.generate(request):
                assert not isinstance(event, Failure), event
        said: list[list[int]] = [[] for _ in range(count)]
        while not self.loop.is_idle:
            for event in self.loop.step():
                assert isinstance(event, Output), event
                said[int(event.request_id)] += [t.token_id for t in event.tokens if t.token_id not in self.ends]
        return [tuple(tokens) for tokens in said]


def outputs(folder: str, draws: int) -> None:
    """The first table."""
    guessing, plain = (Machine(folder, drafts=drafts) for drafts in (True, False))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(mode=False)
    print(f"\n## Whole outputs under a constraint, {draws} draws at temperature 1\n")
    row("constraint", "texts", "sequences told apart", "chi-square p", "bar", "illegal", "equal without guesses")
    for case in CASES:
        prompt = guessing.prompt(case.prompt)
        reference = Reference(model, guessing.vocabulary.tokens, guessing.ends, rarest=0.05 / draws)
        wanted = reference.distribution(prompt, case.language)
        drawn = guessing.draws(prompt, case.compile(guessing.vocabulary), draws)
        again = plain.draws(prompt, case.compile(plain.vocabulary), draws)
        spelt = [b"".join(guessing.vocabulary.tokens[token] for token in each) for each in drawn]
        counts = Counter(drawn)
        p, cells = chi_square(wanted, counts, draws)
        row(
            *(case.name, str(len(case.language)), str(cells), f"{p:.3f}", "met" if p > 1e-3 else "MISSED"),
            str(sum(text not in case.language for text in spelt)),
            str(drawn == again),
        )


def chi_square(wanted: dict[tuple[int, ...], float], counts: Counter[tuple[int, ...]], draws: int) -> tuple[float, int]:
    """p, and the number of cells: those expected five times or more, and all the rest as one."""
    common = [said for said, chance in wanted.items() if chance * draws >= 5]
    observed = [counts[said] for said in common]
    expected = [wanted[said] * draws for said in common]
    rest = draws - sum(expected)
    if rest < 1:  # too small a cell: scale the others
        expected = [each * sum(observed) / sum(expected) for each in expected]
    else:
        observed, expected = [*observed, draws - sum(observed)], [*expected, rest]
    return (float(stats.chisquare(observed, expected).pvalue) if len(expected) > 1 else math.nan), len(expected)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of an answer by pointer."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield place, value
        return
    for key, each in inner:
        yield from leaves(each, f"{place}/{key}")


def kind_of(value: Any, schema: dict[str, Any]) -> str:
    """What a field of the expected answer is; enumerations are told by the schema's text."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "enum" if f'"{value}"' in json.dumps(schema, ensure_ascii=False) else "free text"


def fields(folder: str, documents: int) -> None:
    """The second table, for each default scheme."""
    secrets = {f"key-{n}": f"benchmark secret number {n}".encode() for n in range(5)}
    writer = EngineWriter(folder, KeyRing(secrets), secrets, "extractions")
    for name in ("gumbel", "kgw"):
        _fields(writer, name, list(secrets), documents)


def _fields(writer: EngineWriter, scheme: str, keys: Sequence[str], documents: int) -> None:
    right: dict[str, list[tuple[bool, bool]]] = {}
    same: Counter[str] = Counter()
    for number, key in enumerate(keys):
        share, marking = documents // len(keys), Marking(scheme, key)
        examples = held_out_extractions(share, 50_000 + number)
        marked = _values(writer, writer.documents(share, marking, number))
        unmarked = _values(writer, writer.documents(share, None, number, greedy=marking.is_greedy))
        for example, one, other in zip(examples, unmarked, marked, strict=True):
            for place, value in leaves(json.loads(example.answer)):
                kind = kind_of(value, example.schema or {})
                pair = one.get(place) == value, other.get(place) == value
                right.setdefault(kind, []).append(pair)
                same[kind] += one.get(place) == other.get(place)
    temperature = 0 if Marking(scheme, keys[0]).is_greedy else 1
    print(
        f"\n## Fields of {documents} extractions, unmarked and marked ({scheme}, {len(keys)} keys), "
        f"temperature {temperature}\n"
    )
    row("kind", "fields", "equal", "right unmarked", "right marked", "only one right", "McNemar p", "bar")
    for kind, pairs in sorted(right.items()):
        table = np.array(pairs)
        first, second = _only(table)
        p = float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0
        row(
            *(kind, str(len(table)), f"{same[kind] / len(table):.3f}"),
            *(f"{share:.3f}" for share in table.mean(axis=0)),
            *(f"{first} / {second}", f"{p:.3f}", "met" if p > 1e-3 else "MISSED"),
        )


def _only(table: NDArray[np.bool_]) -> tuple[int, int]:
    return int((table[:, 0] & ~table[:, 1]).sum()), int((~table[:, 0] & table[:, 1]).sum())


def _values(writer: EngineWriter, documents: Sequence[Document]) -> list[dict[str, Any]]:
    found = []
    for document in documents:
        assert isinstance(document.text, Answer)
        found.append(dict(leaves(json.loads(writer.spell(document.text.tokens)))))
    return found


def row(*cells: str) -> None:
    """One line of a table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="formwork bench fidelity", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="models/formwork-mini", help="folder of the model (a Llama)")
    parser.add_argument("--draws", type=int, default=2000, help="outputs per constraint")
    parser.add_argument("--documents", type=int, default=400, help="extractions")
    options = parser.parse_args(arguments)
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}; {options.model}")
    outputs(options.model, options.draws)
    fields(options.model, options.documents)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
