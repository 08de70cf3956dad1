"""shares: a rank reads its part of a checkpoint and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import PersimmonConfig

from engine.model.assembly import WeightFiles
from engine.model.errors import BrokenModel, UnsupportedModel
from engine.model.loading import load_config
from engine.model.parallel import divide, load_share, plan_of
from engine.model.parallel.shares import read_share
from tests.engine.model.families import FAMILY_NAMES

RANKS = 2


def read_shares(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    """All that a rank reads."""
    config, files = load_config(str(folder)), WeightFiles(folder)
    plan, division = plan_of(config), divide(config, rank, RANKS)
    return {name: read_share(files, name, plan, division) for name in files.names}


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_ranks_hold_little_more_than_their_part(family: str, family_folder: Callable[[str], Path]) -> None:
    """Of two ranks each reads half of every matrix but those that are held whole: routers, positions, low ranks."""
    folder = family_folder(family)
    whole = load_file(folder / "model.safetensors")
    part = read_shares(folder, 0)
    assert part.keys() == whole.keys()
    undivided = {n for n, t in part.items() if t.ndim >= 2 and "bias" not in n and t.shape == whole[n].shape}
    known = ("gate.weight", "router.weight", "wpe.", "embed_positions", "project_", "q_a_proj", "kv_a_proj")
    assert all(any(word in name for word in known) for name in undivided), undivided


def test_no_divided_tensor_is_read_whole(family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors reads what is sliced; a whole read of a divided tensor would show here."""
    read: list[str] = []

    class Watched:
        """A safetensors file that notes whole reads."""

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __enter__(self) -> Any:
            return self._inner.__enter__()

        def __exit__(self, *problem: object) -> None:
            self._inner.__exit__(*problem)

        def get_slice(self, name: str) -> Any:
            return self._inner.get_slice(name)

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            tensor: torch.Tensor = self._inner.get_tensor(name)
            return tensor

    monkeypatch.setattr("engine.model.assembly.safe_open", lambda *a, **k: Watched(safe_open(*a, **k)))
    read_shares(family_folder("llama"), 1)
    assert read
    assert all("norm" in name for name in read)


def test_a_checkpoint_that_lacks_a_weight_is_refused(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """By the name of what is missing."""
    whole = load_file(family_folder("llama") / "model.safetensors")
    del whole["model.layers.1.mlp.up_proj.weight"]
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((family_folder("llama") / "config.json").read_bytes())
    config = load_config(str(tmp_path))
    with pytest.raises(BrokenModel, match=r"lacks 1 weights, model\.layers\.1\.mlp\.up_proj\.weight"):
        load_share(tmp_path, config, plan_of(config), divide(config, 0, RANKS), torch.float32)


def test_families_without_a_plan_are_refused_by_name() -> None:
    """With those that have one."""
    config = PersimmonConfig()
    with pytest.raises(UnsupportedModel, match=r"persimmon is not served by several ranks; served: bloom, cohere"):
        plan_of(config)
