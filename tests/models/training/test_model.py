"""The fresh model's copying heads, its optimiser, its batches, and what is exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.training.batches import batches, encoded
from models.training.model import export, load_model, load_tokenizer, new_model
from models.training.muon import Muon, orthogonalised
from models.training.train import Plan, Progress, answer_loss

TOKENIZER = load_tokenizer()


def test_a_fresh_model_copies_random_tokens() -> None:
    """Chance would be one in 4,096."""
    model = new_model(TOKENIZER, seed=7)
    words = torch.randint(300, 4096, (8, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(torch.cat([words, words], dim=1)).logits[:, 20:-1]
    copied = (logits.argmax(-1) == words[:, 1:]).float().mean()
    assert copied > 0.05


def test_the_same_seed_makes_the_same_model() -> None:
    first, second = new_model(TOKENIZER, seed=1), new_model(TOKENIZER, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalised(matrices, rounds=8).float())
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.4


def test_muon_moves_every_matrix_against_its_gradient() -> None:
    parameter = torch.nn.Parameter(torch.zeros(6, 4))
    parameter.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    Muon([parameter], lr=0.1, weight_decay=0.0).step()
    assert float((parameter.detach() * parameter.grad).sum()) < 0


def test_batches_are_full_little_padded_and_repeatable() -> None:
    made = list(batches(TOKENIZER, seed=1, pool=0, tokens_seen=10**9, batch_tokens=4096))
    again = next(iter(batches(TOKENIZER, seed=1, pool=0, tokens_seen=10**9, batch_tokens=4096)))
    assert torch.equal(made[0].ids, again.ids)
    assert sum(batch.tokens for batch in made) / sum(batch.ids.numel() for batch in made) > 0.9


def test_the_loss_is_on_the_answers_and_their_end() -> None:
    batch = next(iter(batches(TOKENIZER, seed=1, pool=0, tokens_seen=0, batch_tokens=1024)))
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        asked = [target for target in targets if target != -100]
        first = next(index for index, target in enumerate(targets) if target != -100)
        assert asked[-1] == TOKENIZER.eos_token_id
        assert ids[first + 1 : first + 1 + len(asked)] == asked


def test_an_untrained_loss_is_finite_and_has_gradients() -> None:
    model = new_model(TOKENIZER, seed=3)
    batch = next(iter(batches(TOKENIZER, seed=1, pool=0, tokens_seen=0, batch_tokens=512)))
    loss = answer_loss(model, batch, "cpu")
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_rate_warms_up_stays_and_runs_down() -> None:
    plan = Plan(tokens=1000, decay_tokens=200, batch_tokens=1, seed=0, device="cpu", checkpoint_s=1.0)
    assert plan.rate(Progress(step=0, tokens=0)) == pytest.approx(0.01)
    assert plan.rate(Progress(step=500, tokens=700)) == 1.0
    assert plan.rate(Progress(step=500, tokens=900)) == pytest.approx(0.5)
    assert plan.rate(Progress(step=500, tokens=1000)) == 0.0


def test_an_exported_model_gives_the_same_logits(tmp_path: Path) -> None:
    model = new_model(TOKENIZER, seed=5)
    export(model, tmp_path)
    ids = torch.tensor([encoded(TOKENIZER, "The same text")])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
        before, after = model(ids).logits, load_model(tmp_path)(ids).logits
    assert torch.allclose(before, after, atol=1e-4)
