"""A model that brings its own Python files: refused unless it is trusted, served like any other if it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers.dynamic_module_utils

from engine.model import ModelRunner, RunnerConfig, UnsupportedModel
from tests.engine.model.families import VOCABULARY
from tests.engine.model.paged import PagedDriver, random_tokens
from tests.oracles.dense_logits import dense_logits

_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "formwork_test_own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_folder(tmp_path: Path, family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny Llama, as a model type that transformers does not know."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    folder.mkdir()
    source = family_folder("llama")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["model_type"] = "formwork_test_own"
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    (folder / "own.py").write_text(_CODE, encoding="utf-8")
    return folder


def test_its_code_is_not_run_unasked(own_folder: Path) -> None:
    """Not even read: the refusal comes from config.json."""
    (own_folder / "own.py").write_text("raise SystemExit('run')", encoding="utf-8")
    with pytest.raises(UnsupportedModel, match="trust_remote_code"):
        ModelRunner(RunnerConfig(path=str(own_folder), pages=8, threads=1))


def test_it_is_served_if_it_is_trusted(own_folder: Path, family_folder: Callable[[str], Path]) -> None:
    """The same weights under transformers' own class give the same logits."""
    tokens = random_tokens(20, VOCABULARY, 3)
    driver = PagedDriver(ModelRunner(RunnerConfig(path=str(own_folder), pages=8, threads=1, trust_remote_code=True)))
    got = torch.cat([driver.step([(0, tokens[:13])])[0], driver.step([(0, tokens[13:])])[0]])

    (want,) = dense_logits(family_folder("llama"), [tokens])

    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)
