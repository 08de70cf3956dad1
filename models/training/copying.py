"""Copying from the first step: previous-token and induction heads laid into a fresh model by hand.

What it is for: a small model needs millions of tokens before it finds out how to copy by chance, and all that this
model does is copying. The circuit (Olsson et al. 2022) is known, so it is where training starts; training then bends it
at will. Measured: what took 5 million tokens without is surpassed after half a million. What may not enter: anything
about the tasks or the vocabulary. The result is a plain Llama with other first weights.

The idea, in two layers:
1. A head of layer 0 looks one position back and writes a code of the token there (a random projection) into the
   residual stream. All embeddings share a constant in dimension 0 (which shifts all logits alike, so it says nothing);
   query and key read only that, the key turned by one step of each rotary frequency, so that their product peaks at
   distance one.
2. A head of layer 1 asks with the code of its own token for the position whose *previous* token has that code, in the
   slow rotary dimensions, which hardly turn over a text's length, and copies the token there into its output.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

EMBEDDING_STD = 0.06
_CONSTANT = 8 * EMBEDDING_STD  # of dimension 0, against a norm of 16 · EMBEDDING_STD for the rest
_PAIRS = 4  # heads of each kind
_SHARPNESS = 7.0  # amplitude of the position-only query and key
_FAST = 8  # rotary frequencies that tell neighbours apart
_WRITTEN = 0.15  # gain of the previous token's code in the residual stream
_ASKED = 3.5  # gain of the code in the induction heads' query and key
_COPIED = 1.0  # gain of the copied token's embedding
_STILL = 0.007  # rotary frequencies below this count as not turning


@torch.no_grad()
def lay_copying_heads(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Overwrite the embeddings and the first heads of layers 0 and 1, in place."""
    config = model.config
    width, dims = config.hidden_size, config.hidden_size // config.num_attention_heads
    frequencies = model.model.rotary_emb.inv_freq.float().cpu()  # (dims / 2,)
    embedding = model.model.embed_tokens.weight
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * EMBEDDING_STD)
    embedding[:, 0] = _CONSTANT
    codes, places, copies = (torch.split(_orthonormal(_PAIRS * dims, width, generator), dims) for _ in range(3))
    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    constant = _CONSTANT / math.hypot(EMBEDDING_STD, _CONSTANT / math.sqrt(width))  # of dimension 0 after the norm
    for head in range(_PAIRS):
        rows = slice(head * dims, (head + 1) * dims)
        query, key = _one_back(frequencies)
        first.q_proj.weight[rows, 0] = query * _SHARPNESS / constant
        first.k_proj.weight[rows, 0] = key * _SHARPNESS / constant
        first.v_proj.weight[rows] = codes[head]
        first.o_proj.weight[:, rows] = places[head].T * _WRITTEN
        still = _still_dimensions(frequencies)
        for projection, code in ((second.q_proj, codes[head]), (second.k_proj, places[head])):
            projection.weight[rows] = 0.0
            projection.weight[[head * dims + dim for dim in still]] = code[: len(still)] * _ASKED
        second.v_proj.weight[rows] = copies[head]
        second.o_proj.weight[:, rows] = copies[head].T * _COPIED


def _orthonormal(rows: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Orthonormal rows that leave dimension 0, the constant, alone; (rows, width)."""
    square = torch.linalg.qr(torch.randn(width - 1, width - 1, generator=generator)).Q
    return torch.cat([torch.zeros(rows, 1), square[:rows]], dim=1)


def _one_back(frequencies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and key of one head whose rotated product is greatest one position back; (dims,) each."""
    fast = (torch.arange(len(frequencies)) < _FAST).float()
    query = torch.cat([fast, torch.zeros_like(fast)])
    key = torch.cat([fast * frequencies.cos(), fast * frequencies.sin()])
    return query, key


def _still_dimensions(frequencies: torch.Tensor) -> list[int]:
    """Both halves of each slow rotary pair."""
    slow = [pair for pair, frequency in enumerate(frequencies.tolist()) if frequency < _STILL]
    return slow + [pair + len(frequencies) for pair in slow]
