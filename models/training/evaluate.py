"""Measure a model folder on held-out tasks: `python -m models.training.evaluate models/formwork-mini`.

What it is for: the card's figures, greedy, written to the folder's evaluation.json: fields right with and without the
schema constraint, the share of unconstrained outputs that parse and validate, and the other tasks' exact answers. What
may not enter: anything that training has seen; entity words here are of the held-out side (see `words`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

from engine.tokenizer import Tokenizer
from grammar import Vocabulary, compile_json_schema
from models.training.batches import encoded, prompt_text
from models.training.data import Example, held_out_extractions, held_out_turns
from models.training.handwritten import handwritten_examples
from models.training.model import FOLDER, load_model, load_tokenizer

ROWS = 50
LONGEST_ANSWER = 160
Answers = list[str]


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a JSON value by pointer; an array of plain values is one field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{pointer}/{key}")
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{pointer}/{index}")
    else:
        yield pointer, value


def fields_right(expected: str, answered: str) -> tuple[int, int]:
    """(right, asked) fields of one answer; an answer that is no JSON has none right."""
    asked = dict(leaves(json.loads(expected)))
    try:
        given = dict(leaves(json.loads(answered)))
    except ValueError:
        return 0, len(asked)
    right = sum(1 for pointer, value in asked.items() if pointer in given and _same(value, given[pointer]))
    return right, len(asked)


def _same(expected: Any, given: Any) -> bool:
    """Equal as JSON values: 1 and 1.0 are, true and 1 are not."""
    return isinstance(expected, bool) == isinstance(given, bool) and bool(expected == given)


def validates(schema: dict[str, Any] | None, answered: str) -> bool:
    """True iff the answer parses and satisfies the schema."""
    try:
        return bool(jsonschema.Draft202012Validator(schema or {}).is_valid(json.loads(answered)))
    except ValueError:
        return False


class SchemaConstraint(LogitsProcessor):
    """Masks each row's logits by its example's grammar."""

    def __init__(self, examples: Sequence[Example], vocabulary: Vocabulary, prompt_length: int) -> None:
        self._matchers = [
            compile_json_schema(
                example.schema or {}, vocabulary, property_order="schema", whitespace="spaced"
            ).matcher()
            for example in examples
        ]
        self._prompt_length = prompt_length
        self._rows = np.zeros((len(examples), vocabulary.words), dtype=np.int32)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        left = LONGEST_ANSWER - (input_ids.shape[1] - self._prompt_length)
        for matcher, row, ids in zip(self._matchers, self._rows, input_ids, strict=True):
            if input_ids.shape[1] > self._prompt_length and not matcher.is_finished:
                assert matcher.advance(int(ids[-1])), "the mask and advance disagree"
            if not matcher.is_finished:
                matcher.fill_mask(row, budget=left)
        bits = np.unpackbits(self._rows.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]]
        return scores.masked_fill(torch.from_numpy(bits == 0), float("-inf"))


def vocabulary_of(folder: Path, width: int) -> Vocabulary:
    """The folder's tokens as bytes, as the service reads them."""
    tokenizer = Tokenizer.load(folder)
    return Vocabulary(tokenizer.padded_bytes(width), tokenizer.eos_token_ids)


def answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    vocabulary: Vocabulary | None,
) -> Answers:
    """Greedy answers; under each example's schema if a vocabulary is given."""
    prompts = [encoded(tokenizer, prompt_text(tokenizer, example)) for example in examples]
    order = sorted(range(len(examples)), key=lambda index: len(prompts[index]))
    said: dict[int, str] = {}
    for start in tqdm(range(0, len(order), ROWS), desc="constrained" if vocabulary else "unconstrained", leave=False):
        rows = order[start : start + ROWS]
        longest = max(len(prompts[row]) for row in rows)
        padding = [[tokenizer.pad_token_id] * (longest - len(prompts[row])) for row in rows]
        ids = torch.tensor([pad + prompts[row] for pad, row in zip(padding, rows, strict=True)])
        mask = torch.tensor([[0] * len(pad) + [1] * (longest - len(pad)) for pad in padding])
        constraint = LogitsProcessorList()
        if vocabulary:
            constraint.append(SchemaConstraint([examples[row] for row in rows], vocabulary, longest))
        out = model.generate(
            ids, attention_mask=mask, max_new_tokens=LONGEST_ANSWER, do_sample=False, logits_processor=constraint
        )
        said |= {row: _decoded(tokenizer, tokens[longest:].tolist()) for row, tokens in zip(rows, out, strict=True)}
    return [said[index] for index in range(len(examples))]


def _decoded(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> str:
    end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
    return str(tokenizer.decode(tokens[:end], skip_special_tokens=True))


def share_of_fields(examples: Sequence[Example], said: Answers) -> float:
    """The share of asked fields that are right."""
    counted = [fields_right(example.answer, answer) for example, answer in zip(examples, said, strict=True)]
    return round(sum(right for right, _ in counted) / sum(asked for _, asked in counted), 4)


def share(examples: Sequence[Example], said: Answers, right: Callable[[Example, str], bool]) -> float:
    """The share of examples whose answer is right in the given sense."""
    return round(sum(right(example, answer) for example, answer in zip(examples, said, strict=True)) / len(examples), 4)


def evaluate(folder: Path, count: int, *, show: bool = False) -> dict[str, Any]:
    """All figures of a model folder over `count` held-out extractions and a quarter as many of each other task."""
    torch.manual_seed(0)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    vocabulary = vocabulary_of(folder, model.config.vocab_size)
    extractions, turns, written = (
        held_out_extractions(count),
        held_out_turns(max(1, count // 4)),
        handwritten_examples(),
    )
    free, bound = answers(model, tokenizer, extractions, None), answers(model, tokenizer, extractions, vocabulary)
    written_free, written_bound = (
        answers(model, tokenizer, written, None),
        answers(model, tokenizer, written, vocabulary),
    )
    turned = answers(model, tokenizer, turns, None)
    if show:
        _show([*extractions, *written], [*bound, *written_bound])
    by_kind = {
        kind: share(*_of_kind(turns, turned, kind), lambda example, answer: example.answer == answer)
        for kind in dict.fromkeys(turn.kind for turn in turns)
    }
    return {
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "extractions": count,
        "fields": sum(fields_right(example.answer, "")[1] for example in extractions),
        "constrained": {
            "fields_right": share_of_fields(extractions, bound),
            "answers_right": share(extractions, bound, _wholly_right),
            "valid": share(extractions, bound, lambda example, answer: validates(example.schema, answer)),
        },
        "unconstrained": {
            "fields_right": share_of_fields(extractions, free),
            "answers_right": share(extractions, free, _wholly_right),
            "valid": share(extractions, free, lambda example, answer: validates(example.schema, answer)),
        },
        "handwritten": {
            "prompts": len(written),
            "constrained_fields_right": share_of_fields(written, written_bound),
            "unconstrained_fields_right": share_of_fields(written, written_free),
        },
        "exact_answers": {"each": max(1, count // 4), **by_kind},
    }


def _of_kind(examples: Sequence[Example], said: Answers, kind: str) -> tuple[list[Example], Answers]:
    kept = [(example, answer) for example, answer in zip(examples, said, strict=True) if example.kind == kind]
    return [example for example, _ in kept], [answer for _, answer in kept]


def _wholly_right(example: Example, answer: str) -> bool:
    right, asked = fields_right(example.answer, answer)
    return right == asked


def _show(examples: Sequence[Example], said: Answers) -> None:
    for example, answer in zip(examples, said, strict=True):
        if not _wholly_right(example, answer):
            print(f"{example.messages[-1]['content']!r}\n  wanted {example.answer}\n  got    {answer}")


def main() -> None:
    """Evaluate, print and write evaluation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--count", type=int, default=300, help="held-out extractions")
    parser.add_argument("--show", action="store_true", help="print the answers that are wrong")
    wanted = parser.parse_args()
    began = time.monotonic()
    figures = evaluate(wanted.folder, wanted.count, show=wanted.show)
    (wanted.folder / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
