"""Muon: momentum whose update is orthogonalised by a Newton–Schulz iteration (Jordan et al. 2024), for hidden matrices.

What it is for: at this size it needs about half the tokens that AdamW does. What may not enter: embeddings and norms,
which AdamW trains. Matrices of one shape are iterated as one stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

# A quintic that drives all singular values into about [0.7, 1.2] within five rounds, fastest for small ones.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; the learning rate is the update's spectral norm."""

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: the gradients are there
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            stacks: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[parameter.shape].append(parameter)
            for parameters in stacks.values():
                self._update(parameters, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, parameters: list[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            state["momentum"].lerp_(parameter.grad, 1 - momentum)
            directions.append(parameter.grad.lerp(state["momentum"], momentum))
        updates = orthogonalised(torch.stack(directions))
        rows, columns = parameters[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * weight_decay).add_(update.to(parameter.dtype), alpha=-lr * scale)


def orthogonalised(matrices: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """About U·Vᵀ of each matrix U·S·Vᵀ; (n, rows, columns), in bfloat16."""
    a, b, c = _QUINTIC
    x: torch.Tensor = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    oriented: torch.Tensor = x.mT if tall else x
    return oriented
