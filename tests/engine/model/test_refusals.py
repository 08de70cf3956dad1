"""What is not served is refused by name, before any weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, NemotronConfig

from engine.model import BrokenModel, ModelError, ModelRunner, RunnerConfig, UnsupportedModel
from engine.model.loading import load_config


def _folder(path: Path, **config: Any) -> Path:
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, "auto_map"),
        ({"model_type": "llama", "_attn_implementation_internal": "someone/kernel"}, "_attn_implementation_internal"),
        ({"model_type": "llama", "text_config": {"auto_map": {}}}, "/text_config/auto_map"),
        ({"model_type": "t5"}, "encoder-decoder"),
        ({"model_type": "mamba"}, "state"),
        ({"model_type": "llava"}, "images"),
        ({"model_type": "clap_text_model"}, "no causal language model"),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "dynamic",
        ),
        ({"model_type": "bert"}, "both directions"),
        ({"model_type": "mpt", "attn_config": {"prefix_lm": True}}, "both directions"),
    ],
)
def test_unservable_configurations_are_named(config: dict[str, Any], word: str, tmp_path: Path) -> None:
    """The message says what was found."""
    with pytest.raises(UnsupportedModel, match=word):
        load_config(str(_folder(tmp_path, **config)))


def test_code_from_elsewhere_is_refused_even_where_the_models_own_is_trusted(tmp_path: Path) -> None:
    """`trust_remote_code` is about the files beside the weights."""
    folder = _folder(tmp_path, model_type="llama", _attn_implementation_internal="someone/kernel")
    with pytest.raises(UnsupportedModel, match="elsewhere"):
        load_config(str(folder), trust=True)


def test_layers_that_keep_the_steps_keyword_to_themselves_are_named(tmp_path: Path) -> None:
    """Nemotron's hand none on to attention, which then would not know what to attend to."""
    sizes: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = NemotronConfig(vocab_size=50, num_key_value_heads=2, max_position_embeddings=64, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    with pytest.raises(UnsupportedModel, match="NemotronAttention does not get the keywords"):
        ModelRunner(RunnerConfig(path=str(tmp_path), device="cpu", pages=4, threads=1))


def test_a_folder_without_configuration_is_broken(tmp_path: Path) -> None:
    """Not a model at all."""
    with pytest.raises(BrokenModel, match="model_type"):
        load_config(str(tmp_path))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    """Only safetensors."""
    _folder(tmp_path, model_type="llama", hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=11)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BrokenModel, match="safetensors"):
        ModelRunner(RunnerConfig(path=str(tmp_path), threads=1))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """The hub's own cache may link to its blobs; nothing else may link anywhere."""
    outside = tmp_path / "secret"
    outside.write_text("x", encoding="utf-8")
    folder = tmp_path / "model"
    folder.mkdir()
    (_folder(folder, model_type="llama") / "model.safetensors").symlink_to(outside)
    with pytest.raises(BrokenModel, match="link out"):
        load_config(str(folder))


def test_the_hub_caches_own_links_are_followed(tmp_path: Path) -> None:
    """snapshots/<revision>/file → blobs/<hash>."""
    (tmp_path / "blobs").mkdir()
    blob = tmp_path / "blobs" / "abc"
    blob.write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    folder = tmp_path / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "config.json").symlink_to(blob)
    assert load_config(str(folder)).model_type == "llama"


def test_missing_weights_stop_the_start(tmp_path: Path, family_folder: Callable[[str], Path]) -> None:
    """A layer more than the checkpoint has would otherwise be random."""
    source = family_folder("llama")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] += 1
    _folder(tmp_path, **config)
    (tmp_path / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(BrokenModel, match="lacks"):
        ModelRunner(RunnerConfig(path=str(tmp_path), threads=1))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"dtype": "float16"}, "bfloat16"),
        ({"page_size": 20}, "multiple of 16"),
        ({"cache_dtype": "fp8"}, "float8.*bfloat16"),
        ({"cache_bytes": 10}, "no page"),
        ({"quantize": "gptq"}, "quantized so"),
        ({"quantize": "eetq"}, "not served on cpu"),
    ],
)
def test_options_that_cannot_be_met_say_so(
    options: dict[str, Any], word: str, family_folder: Callable[[str], Path]
) -> None:
    """On a CPU."""
    with pytest.raises(ModelError, match=word):
        ModelRunner(RunnerConfig(path=str(family_folder("llama")), device="cpu", threads=1, **options))
