"""replacing: every module once, and what has lost its place is gone."""

from __future__ import annotations

import weakref

from torch import nn

from engine.model.replacing import replace_modules


def test_what_has_no_better_is_looked_into() -> None:
    """Names and places stay; the inside of what was replaced is not looked at."""
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2))
    seen: list[str] = []

    def better(module: nn.Module) -> nn.Module | None:
        seen.append(type(module).__name__)
        return nn.Sequential(nn.Linear(3, 3)) if isinstance(module, nn.Linear) else None

    assert replace_modules(model, better) == 2
    assert sorted(seen) == ["Linear", "Linear", "ReLU", "Sequential"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.0", "0.0.0", "0.1", "1", "1.0"]


def test_an_old_module_is_gone_before_the_next_is_made() -> None:
    """Weights that were read into memory are not held until all are packed."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    old: list[weakref.ref[nn.Module]] = []

    def better(module: nn.Module) -> nn.Module:
        assert not any(ref() is not None for ref in old[:-1])
        old.append(weakref.ref(module))
        return nn.Identity()

    assert replace_modules(model, better) == 4
