"""What is drawn has the distribution that the order of design section 5 says, one row like many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from engine.drawing import Drawn, Rejected, Row, Rule
from engine.history import History
from engine.messages import Sampling
from engine.sampler import CpuSampler
from tests.engine.test_logits import packed

WIDTH = 50
DRAWS = 3000
FALSE_ALARM = 1e-4  # per test; seeds are fixed, so a test that passes always passes

ROW = (np.random.default_rng(1).standard_normal(WIDTH) * 1.5).astype(np.float32)
MASK = np.random.default_rng(2).random(WIDTH) < 0.5


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(values - values.max())
    return np.asarray(weights / weights.sum())


def keep(p: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The `count` likeliest, renormalised."""
    kept = np.zeros_like(p)
    best = np.argsort(-p, kind="stable")[:count]
    kept[best] = p[best]
    return np.asarray(kept / kept.sum())


def nucleus(p: NDArray[np.float64], mass: float) -> NDArray[np.float64]:
    order = np.argsort(-p, kind="stable")
    return keep(p, 1 + int(np.sum(np.cumsum(p[order]) < mass)))


def typical(p: NDArray[np.float64], mass: float) -> NDArray[np.float64]:
    """Those whose information is nearest to the entropy, up to the mass."""
    information = -np.log(np.where(p > 0, p, 1.0))
    distance = np.where(p > 0, np.abs(information - np.sum(p * information)), np.inf)
    order = np.argsort(distance, kind="stable")
    kept = np.zeros_like(p)
    chosen = order[: 1 + int(np.sum(np.cumsum(p[order]) < mass))]
    kept[chosen] = p[chosen]
    return np.asarray(kept / kept.sum())


def expected(sampling: dict[str, Any], mask: NDArray[np.bool_] | None, history: History | None) -> NDArray[np.float64]:
    """The reference distribution, by the book."""
    x = ROW.astype(np.float64).copy()
    for token, bias in sampling.get("logit_bias", {}).items():
        x[token] += bias
    if mask is not None:
        x[~mask] = -np.inf
    if history is not None:
        for token, count in zip(history.ids, history.counts, strict=True):
            penalty = sampling.get("repetition_penalty", 1.0)
            x[token] = x[token] / penalty if x[token] > 0 else x[token] * penalty
            x[token] -= sampling.get("frequency_penalty", 0.0) * count + sampling.get("presence_penalty", 0.0) * (
                count > 0
            )
    p = softmax(x / sampling.get("temperature", 1.0))
    if sampling.get("typical_p", 1.0) < 1:
        p = typical(p, sampling["typical_p"])
    if sampling.get("top_k"):
        p = keep(p, sampling["top_k"])
    if sampling.get("top_p", 1.0) < 1:
        p = nucleus(p, sampling["top_p"])
    if sampling.get("min_p", 0.0) > 0:
        p = np.where(p >= sampling["min_p"] * p.max(), p, 0.0)
        p /= p.sum()
    return p


def drawn(sampling: dict[str, Any], mask: NDArray[np.bool_] | None, history: History | None) -> NDArray[np.int64]:
    """How often each token comes, over many positions of one seed."""
    rule = Rule.of(Sampling(max_tokens=1, seed=11, **sampling))
    masks = np.zeros((1, 2), np.int32) if mask is None else packed(mask)[None]
    which = None if mask is None else 0
    rows = [Row(rule, place, mask=which, drawn_from=which, history=history) for place in range(DRAWS)]
    sampler = CpuSampler(WIDTH)
    sampler.measure(torch.from_numpy(np.repeat(ROW[None], DRAWS, axis=0)), rows, masks)
    counts = np.zeros(WIDTH, np.int64)
    for index in range(DRAWS):
        result = sampler.draw(index)
        assert isinstance(result, Drawn)
        counts[result.token_id] += 1
    return counts


HISTORY = History(np.array([3, 10, 20]), np.array([2, 1, 0], np.float32))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7},
        {"top_k": 7},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
        {"typical_p": 0.6},
        {"temperature": 1.4, "typical_p": 0.8, "top_k": 12, "top_p": 0.9},
        {"logit_bias": {3: 2.0, 7: -1.5}},
        {"logit_bias": {3: 3.0, 7: -1.5}, "top_k": 5},
        {"logit_bias": {20: 1.0}, "temperature": 0.7, "top_p": 0.9, "frequency_penalty": 0.7},
        {"repetition_penalty": 1.8, "min_p": 0.02},
        {"frequency_penalty": 0.7, "presence_penalty": 0.4, "repetition_penalty": 1.3},
    ],
    ids=str,
)
def test_frequencies_match_the_reference(sampling: dict[str, Any], masked: bool) -> None:
    """Chi-square over the tokens expected at least 5 times (the others pooled)."""
    mask = MASK if masked else None
    history = HISTORY if {"frequency_penalty", "repetition_penalty"} & sampling.keys() else None
    p, counts = expected(sampling, mask, history), drawn(sampling, mask, history)
    assert counts[p == 0].sum() == 0, "what the mask or a truncation excludes is never drawn"
    common = p * DRAWS >= 5
    observed, wanted = [*counts[common], counts[~common].sum()], [*(p[common] * DRAWS), p[~common].sum() * DRAWS]
    if wanted[-1] < 1:
        observed, wanted = observed[:-1], [w * sum(observed[:-1]) / sum(wanted[:-1]) for w in wanted[:-1]]
    if len(wanted) > 1:
        assert stats.chisquare(observed, wanted).pvalue > FALSE_ALARM


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_drawn_alike_by_any_number_of_threads(masked: bool) -> None:
    """Whoever gets which rows; every kind of row beside every other."""
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 0.0},
        {"top_p": 0.8},
        {"top_k": 7, "temperature": 1.3},
        {"typical_p": 0.7},
        {"logit_bias": {3: 2.0}, "frequency_penalty": 0.5},
    ]
    width = 1 << 14
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.standard_normal((60, width)).astype(np.float32) * 2)
    masks = packed(rng.random(width) < 0.3)[None]
    rows = []
    for index in range(60):
        rule = Rule.of(Sampling(max_tokens=1, seed=index, **kinds[index % len(kinds)]))
        mask = 0 if masked and index % 2 else None
        history = HISTORY if rule.penalises else None
        rows.append(Row(rule, index, mask=mask, drawn_from=mask, alternatives=index % 3, history=history))
    found = []
    for threads in (1, 3):
        sampler = CpuSampler(width, threads)
        sampler.measure(logits, rows, masks)
        found.append([sampler.draw(index) for index in range(60)])
    assert found[0] == found[1]
    assert all(isinstance(each, Drawn) for each in found[0])


def one(row: Row, logits: NDArray[np.float32], masks: NDArray[np.int32] | None = None) -> Drawn | Rejected:
    sampler = CpuSampler(len(logits))
    sampler.measure(
        torch.from_numpy(logits[None].copy()), [row], np.zeros((1, 2), np.int32) if masks is None else masks
    )
    return sampler.draw(0)


GREEDY = Rule.of(Sampling(max_tokens=1, seed=0, temperature=0.0))


def test_constrained_log_prob_and_legal_mass() -> None:
    result = one(Row(GREEDY, 0, mask=0, drawn_from=0), ROW, packed(MASK)[None])
    assert isinstance(result, Drawn)
    raw = torch.log_softmax(torch.from_numpy(ROW), -1).numpy()
    assert result.logprob == pytest.approx(float(raw[result.token_id]), abs=1e-5)
    assert result.legal_mass == pytest.approx(float(np.exp(raw[MASK]).sum()), abs=1e-5)
    assert result.constrained_logprob == pytest.approx(result.logprob - np.log(result.legal_mass), abs=1e-5)


def test_a_budget_changes_the_draw_and_not_the_log_probs() -> None:
    """`mask` is the grammar alone, `drawn_from` what the budget left of it."""
    left = MASK & (np.arange(WIDTH) > 40)
    result = one(Row(GREEDY, 0, mask=0, drawn_from=1), ROW, np.stack([packed(MASK), packed(left)]))
    assert isinstance(result, Drawn)
    assert left[result.token_id]
    raw = torch.log_softmax(torch.from_numpy(ROW), -1).numpy()
    assert result.legal_mass == pytest.approx(float(np.exp(raw[MASK]).sum()), abs=1e-5)


def test_an_empty_mask_is_a_defined_result() -> None:
    for temperature in (0.0, 0.7, 1.0):
        sampling = Sampling(max_tokens=1, seed=0, temperature=temperature, top_p=0.9 if temperature == 0.7 else 1.0)
        result = one(Row(Rule.of(sampling), 0, mask=0, drawn_from=0), ROW, np.zeros((1, 2), np.int32))
        assert result == Rejected(is_numeric=False)


def test_a_known_token_is_scored_and_not_drawn() -> None:
    result = one(Row(GREEDY, 0, known=17), ROW)
    assert isinstance(result, Drawn)
    assert result.token_id == 17


def test_penalties_leave_the_logits_as_they_were() -> None:
    sampling = Sampling(max_tokens=1, seed=0, temperature=0.5, repetition_penalty=1.5, logit_bias={3: 5.0})
    logits = torch.from_numpy(ROW[None].copy())
    sampler = CpuSampler(WIDTH)
    sampler.measure(logits, [Row(Rule.of(sampling), 0, history=HISTORY)], np.zeros((1, 2), np.int32))
    sampler.draw(0)
    assert np.array_equal(logits.numpy()[0], ROW)
