"""The bundled model: a plain Llama, small enough to train on two cores.

What it is for: the configuration, and reading and writing the folder that the service loads. What may not enter: data.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.training.copying import lay_copying_heads
from models.training.tokenizer import MAX_POSITIONS

FOLDER = Path(__file__).resolve().parent.parent / "formwork-mini"


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model for this tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        intermediate_size=640,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 100_000.0,
        },  # more of each head turns slowly: see copying
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    lay_copying_heads(model, torch.Generator().manual_seed(seed))
    return model


def load_tokenizer(folder: Path = FOLDER) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, its chat template with it."""
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def load_model(folder: Path = FOLDER) -> LlamaForCausalLM:
    """The model of a folder, in float32."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(mode=False)
    return model


def export(model: LlamaForCausalLM, folder: Path = FOLDER) -> None:
    """Write config, generation config and bf16 weights; each file replaces its predecessor at once."""
    weights = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    config = model.config.to_diff_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    generation = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers types it not
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        do_sample=False,
        max_new_tokens=256,
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch)
        save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
        (made / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (made / "generation_config.json").write_text(generation.to_json_string())
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner can read
            os.replace(file, folder / file.name)  # noqa: PTH105 - atomic, and Path.replace reads as text replacement
