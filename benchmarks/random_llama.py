"""The model that speed is measured on: a Llama of 125M random parameters, made on the spot, nothing downloaded.

Hidden 768, 12 layers, 12 heads, 4 key heads, FFN 2048, vocabulary 32,000, seed 0: the shape that the figures in
docs/engine.md are about. Its words are noise, so it says how fast a server is and nothing else. The tokenizer is a
byte-level BPE of as many words, learnt from Python's standard library; special tokens and chat template are the
bundled model's.

    python -m benchmarks.random_llama FOLDER [SHAPE]

Two larger shapes are for GPUs: `1b` and `8b`, those of Llama 3 in bfloat16, their vocabulary of 128,256 filled up with
tokens that spell nothing.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

_BUNDLED = Path(__file__).parent.parent / "models" / "formwork-mini"
_TEXT_BYTES = 12_000_000


_WORDS = 32_000
# hidden, layers, heads, key heads, FFN, logits, positions, type of the weights
_SHAPES = {
    "125m": (768, 12, 12, 4, 2048, _WORDS, 2048, torch.float32),
    "1b": (2048, 16, 32, 8, 8192, 128_256, 8192, torch.bfloat16),
    "8b": (4096, 32, 32, 8, 14336, 128_256, 8192, torch.bfloat16),
}
SHAPES = tuple(_SHAPES)


def random_llama(folder: Path, shape: str = "125m", device: str = "cpu") -> Path:
    """Writes model and tokenizer; the same bytes every time for one Python, one torch and one device."""
    hidden, layers, heads, kv_heads, inner, width, positions, dtype = _SHAPES[shape]
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=inner,
        vocab_size=width,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        dtype=dtype,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    for name in ("tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((_BUNDLED / name).read_bytes())
    _tokenizer(_WORDS).save(str(folder / "tokenizer.json"))
    return folder


def _tokenizer(vocabulary: int) -> Tokenizer:
    bundled = json.loads((_BUNDLED / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[added["content"] for added in bundled["added_tokens"]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sources(), trainer)
    return tokenizer


def _sources() -> Iterator[str]:
    left = _TEXT_BYTES
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        left -= len(text)
        if left < 0:
            return
        yield text


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    random_llama(Path(sys.argv[1]), *sys.argv[2:3])
