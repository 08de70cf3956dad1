"""Where models come from: one file or many, a folder or a hub id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch

from engine.checkpoint import locate
from engine.model import BrokenModel, ModelRunner, RunnerConfig
from tests.engine.model.families import VOCABULARY, build_family
from tests.engine.model.paged import PagedDriver, random_tokens


def _logits(folder: Path) -> torch.Tensor:
    runner = ModelRunner(RunnerConfig(path=str(folder), device="cpu", threads=1, pages=8))
    return PagedDriver(runner).step([(0, random_tokens(20, VOCABULARY, 0))])[0]


def test_a_checkpoint_in_many_files_is_the_same_model(tmp_path: Path, family_folder: Callable[[str], Path]) -> None:
    """As hubs keep large ones: an index and shards."""
    build_family("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    shards = set(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values())
    assert len(shards) > 2
    assert torch.equal(_logits(tmp_path), _logits(family_folder("llama")))


def test_a_missing_shard_stops_the_start(tmp_path: Path) -> None:
    """By name, not with random weights in its place."""
    build_family("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(BrokenModel, match=gone.name):
        ModelRunner(RunnerConfig(path=str(tmp_path), device="cpu", threads=1, pages=8))


def test_a_hub_id_is_its_snapshot(
    tmp_path: Path, family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is read is asked for: weights in safetensors, configuration, tokenizer; no code, no pickles."""
    asked: dict[str, object] = {}

    def snapshot(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(family_folder("llama"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    folder = locate("someone/small-llama", "v1")
    assert torch.equal(_logits(folder), _logits(family_folder("llama")))
    assert (asked["name"], asked["revision"]) == ("someone/small-llama", "v1")
    patterns = asked["patterns"]
    assert isinstance(patterns, list)
    assert not any(pattern.endswith((".py", ".bin", ".pt", "*")) for pattern in patterns)
