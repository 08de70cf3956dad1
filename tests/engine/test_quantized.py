"""Quantized weights under the whole engine: constraints, log-probs and guesses are what they are over any weights."""

from __future__ import annotations

import json

import pytest

from engine.messages import Token
from engine.tokenizer import Tokenizer
from tests.engine.test_cuda_loop import MODEL, SCHEMA, answers, loop_of, requests_of


def answered(**options: object) -> dict[str, list[Token]]:
    """Greedy and sampled, free and under the schema, all at once over weights in eight bits."""
    loop, fingerprint = loop_of("cpu", quantize="torchao-int8", **options)
    requests = requests_of(fingerprint)
    return answers(loop, [*requests[:2], *requests[7:9]])


def test_guesses_change_nothing_and_constrained_text_conforms() -> None:
    """Token for token and bit by bit with guesses and in other batches; the schema's texts are complete and valid."""
    with_guesses, without = answered(), answered(speculate=0, max_batch_tokens=40, max_sequences=2)
    assert with_guesses == without
    tokenizer = Tokenizer.load(MODEL)
    for name in ("7", "8"):
        spelled = [tokenizer.vocabulary_bytes[token.token_id] for token in without[name]]
        assert json.loads(b"".join(spelled)).keys() == SCHEMA["properties"].keys()  # type: ignore[attr-defined]
        assert all(0 < token.legal_mass <= 1 + 1e-6 for token in without[name])
        assert all(token.constrained_logprob >= token.logprob - 1e-5 for token in without[name])


@pytest.mark.parametrize("cache_dtype", ["float32", "bfloat16"])
def test_a_draft_model_and_a_narrow_cache_go_with_them(cache_dtype: str) -> None:
    """Whoever guesses, and however keys and values are held: the tokens are those without guesses."""
    everyone = answered(draft_model=str(MODEL), cache_dtype=cache_dtype)
    assert everyone == answered(speculate=0, cache_dtype=cache_dtype)


@pytest.mark.parametrize("name", ["0", "1"])
def test_free_text_has_the_models_own_log_probs(name: str) -> None:
    """Without a constraint both are the same number, and all tokens are legal."""
    for token in answered(speculate=0)[name]:
        assert token.logprob == token.constrained_logprob
        assert token.legal_mass == 1.0
