"""Whole requests on every family: the loop's output is transformers' own greedy text, and its log-probs too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engine.messages import ModelInfo
from engine.model import ModelRunner, RunnerConfig
from tests.engine.houses import drive, house, request
from tests.engine.model.families import FAMILY_NAMES, VOCABULARY
from tests.engine.model.paged import random_tokens
from tests.oracles.dense_logits import dense_logits

_STEM = random_tokens(21, VOCABULARY, 5)


class _NoEnd:
    """A runner whose model has no end token, so that every request says as much as it may."""

    def __init__(self, runner: ModelRunner) -> None:
        self.run, self.copy_page = runner.run, runner.copy_page
        self.info: ModelInfo = msgspec.structs.replace(runner.info, eos_token_ids=[])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_greedy_text_and_log_probs_are_those_of_transformers(family: str, family_folder: Callable[[str], Path]) -> None:
    """Chunked prompts, a shared beginning, a partial page copied, another length beside: each token is the argmax of
    transformers' forward pass over all that precedes it, and its log-probs are at most 1e-4 off."""
    folder = family_folder(family)
    made = house(_NoEnd(ModelRunner(RunnerConfig(path=str(folder), pages=12, threads=1))), max_batch_tokens=13)
    first = request("first", _STEM, max_tokens=6, top_logprobs=2)
    others = [
        request("same", _STEM, max_tokens=9),
        request("branch", [*_STEM[:19], 7, 8, 9], max_tokens=5, prompt_logprobs=0),
        request("sampled", [*_STEM, 11], max_tokens=6, temperature=0.8, top_p=0.9, seed=3),
    ]
    answers = drive(made, [first]) | drive(made, others)
    finish = answers["sampled"].finish
    assert finish is not None
    assert finish.cached_tokens >= 16, "the beginning was shared"

    wanted = {one.request_id: one for one in [first, *others]}
    texts = {name: [*wanted[name].prompt, *answers[name].ids] for name in wanted}
    dense = dict(zip(texts, dense_logits(folder, list(texts.values()), family), strict=True))

    for name, answer in answers.items():
        start = len(wanted[name].prompt)
        logprobs = torch.log_softmax(dense[name][start - 1 : -1].double(), dim=-1).numpy()
        assert len(answer.ids) == wanted[name].sampling.max_tokens
        if name != "sampled":
            assert answer.ids == np.argmax(logprobs, axis=1).tolist(), name
        assert [token.logprob for token in answer.tokens] == pytest.approx(
            logprobs[np.arange(len(answer.ids)), answer.ids].tolist(), abs=1e-4
        )
    best = np.sort(torch.log_softmax(dense["first"][len(_STEM) - 1 : -1].double(), dim=-1).numpy(), axis=1)
    for token, row in zip(answers["first"].tokens, best, strict=True):
        assert [one.logprob for one in token.alternatives] == pytest.approx([row[-1], row[-2]], abs=1e-4)
    scored = answers["branch"].outputs[0].prompt
    assert scored is not None
    prompt = torch.log_softmax(dense["branch"].double(), dim=-1).numpy()
    for index, said in enumerate(scored[1:]):
        assert said.logprob == pytest.approx(prompt[index, said.token_id], abs=1e-4)
