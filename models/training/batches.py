"""Examples as token batches of nearly equal lengths.

What it is for: rendering examples through the model's own chat template, tokenising them, and sorting a pool of them
into batches with little padding. Seeded by (seed, pool), so that a resumed run sees what an unbroken one would have.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from models.training.data import Example, training_examples

POOL = 1536
WIDENED_AT = 4_000_000  # tokens after which the tasks have their full width


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows; the loss is taken where `targets` is not −100, which is on the answers."""

    ids: torch.Tensor  # (rows, length)
    targets: torch.Tensor  # (rows, length): the next token, or −100
    tokens: int  # without padding


def prompt_text(tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    """What the model reads before it answers."""
    if example.raw_prompt is not None:
        return example.raw_prompt
    rendered = tokenizer.apply_chat_template(
        list(example.messages),
        tools=list(example.tools) or None,
        response_format=example.response_format,
        add_generation_prompt=True,
        tokenize=False,
    )
    assert isinstance(rendered, str)
    return rendered


def encoded(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The text's tokens; special tokens in it are recognised, none are added."""
    ids: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, pool: int, tokens_seen: int, batch_tokens: int
) -> Iterator[Batch]:
    """The batches of one pool of examples, at the stage of training that `tokens_seen` says."""
    stream = training_examples(seed * 1_000_003 + pool, min(1.0, tokens_seen / WIDENED_AT))
    rows = sorted((_row(tokenizer, example) for example in itertools.islice(stream, POOL)), key=lambda row: len(row[0]))
    cuts, start = [], 0
    for end in range(1, len(rows) + 1):
        longest = len(rows[end - 1][0])
        if longest * (end - start) >= batch_tokens or end == len(rows):
            cuts.append((start, end))
            start = end
    random.Random(pool).shuffle(cuts)
    for first, last in cuts:
        yield _batch(rows[first:last], tokenizer.pad_token_id)


def _row(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], int]:
    prompt = encoded(tokenizer, prompt_text(tokenizer, example))
    answer = encoded(tokenizer, example.answer)
    return [*prompt, *answer, tokenizer.eos_token_id], len(prompt)


def _batch(rows: list[tuple[list[int], int]], padding: int) -> Batch:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), padding)
    targets = torch.full((len(rows), longest), -100)
    for row, (tokens, prompt) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
    return Batch(ids, targets, sum(len(tokens) for tokens, _ in rows))
