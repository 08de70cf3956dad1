"""Puts modules in the places of others.

What it is for: norms, fused layers, codes and packed products each replace a model's modules by better ones; this is
their walk. What may not enter: what takes whose place.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def replace_modules(model: nn.Module, better: Callable[[nn.Module], nn.Module | None]) -> int:
    """Each module below the model's own for which there is a better one gives it its place; how many those were.

    What is inside of one that was replaced is not looked at, and nothing here holds it any longer.
    """
    replaced, waiting = 0, [model]
    while waiting:
        module = waiting.pop()
        for name in [name for name, _ in module.named_children()]:
            child = module.get_submodule(name)
            found = better(child)
            if found is None:
                waiting.append(child)
            else:
                setattr(module, name, found)
                replaced += 1
    return replaced
