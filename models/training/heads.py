"""Train Medusa heads for a trained model: `python -m models.training.heads` (CPU or `--device cuda`).

What it is for: heads that guess the second, third, … token after a position from the model's last hidden state there
(Cai et al. 2024, "Medusa"), in the file that the engine and other servers read. The model itself is frozen. Loss on the
answers only, later heads weighing less. Each head is one residual block in front of the model's own output matrix.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers import AttentionInterface, LlamaForCausalLM

from models.training.batches import WIDENED_AT, Batch, batches
from models.training.model import FOLDER, load_model, load_tokenizer
from models.training.train import causal_attention

_FADING = 0.8  # each head weighs so much of the one before it
_PEAK = 8e-3  # after 200,000 tokens the first head is right for 30 % of the tokens, with 2e-3 for 23 %


class Heads(nn.Module):
    """`count` residual blocks; block k makes of a hidden state one from which the output matrix reads token k + 2."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)  # at first each head says what the model says of the next token

    def forward(self, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
        """(n, width) to as many (n, width)."""
        for block in self.blocks:
            yield hidden + F.silu(block(hidden))


def heads_loss(model: LlamaForCausalLM, heads: Heads, batch: Batch, device: str) -> tuple[torch.Tensor, list[float]]:
    """The weighted mean of the heads' losses, and how often each head's best guess is right."""
    ids, targets = batch.ids.to(device), batch.targets.to(device)
    with torch.no_grad():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    loss, right = torch.zeros((), device=device), []
    places = targets != -100
    states = list(heads(hidden[places]))
    for ahead, state in enumerate(states, 1):
        later = F.pad(targets[:, ahead:], (0, ahead), value=-100)[places]
        there = later != -100
        logits = model.lm_head(state[there])
        loss = loss + _FADING ** (ahead - 1) * F.cross_entropy(logits, later[there])
        right.append(float((logits.argmax(1) == later[there]).float().mean()))
    return loss, right


def train(model: LlamaForCausalLM, heads: Heads, wanted: argparse.Namespace) -> list[float]:
    """Until the tokens are seen or the time is over; the heads' shares of right guesses, over the last batches."""
    tokenizer = load_tokenizer(wanted.folder)
    optimiser = torch.optim.AdamW(heads.parameters(), lr=_PEAK, weight_decay=0.0)
    seen, pool, smooth, began = 0, 0, [0.0] * len(heads.blocks), time.monotonic()
    bar = tqdm(total=wanted.tokens, unit="tok", unit_scale=True, mininterval=20)
    done = 0.0
    while done < 1.0:
        for batch in batches(tokenizer, wanted.seed, pool, WIDENED_AT, wanted.batch_tokens):
            for group in optimiser.param_groups:
                group["lr"] = _PEAK * (1.0 - done)
            loss, right = heads_loss(model, heads, batch, wanted.device)
            torch.autograd.backward(loss)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            smooth = [0.97 * old + 0.03 * new for old, new in zip(smooth, right, strict=True)]
            seen += batch.tokens
            bar.update(batch.tokens)
            bar.set_postfix_str(" ".join(f"{share:.3f}" for share in smooth), refresh=False)
            done = max(seen / wanted.tokens, (time.monotonic() - began) / (60 * wanted.minutes))
            if done >= 1.0:
                break
        pool += 1
    bar.close()
    return smooth


def export(heads: Heads, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """medusa_lm_head.safetensors and medusa_config.json, as the engine reads them."""
    tensors = {
        f"{head}.0.linear.{name}": value.detach().to("cpu", dtype).contiguous()
        for head, block in enumerate(heads.blocks)
        for name, value in block.named_parameters()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "medusa_lm_head.safetensors")
    config = {"medusa_num_heads": len(heads.blocks), "medusa_num_layers": 1}
    (folder / "medusa_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Train, print how often each head is right, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--out", type=Path, help="default: the model's folder")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end by then, whatever was seen")
    parser.add_argument("--batch-tokens", type=int, default=1536)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    wanted = parser.parse_args()
    AttentionInterface.register("plain_causal", causal_attention)
    model = load_model(wanted.folder)
    if wanted.device == "cpu":
        model.set_attn_implementation("plain_causal")
    nn.Module.to(model, wanted.device)
    model.requires_grad_(requires_grad=False)
    heads = Heads(wanted.heads, model.config.hidden_size).to(wanted.device)
    shares = train(model, heads, wanted)
    export(heads, wanted.out or wanted.folder)
    print(" ".join(f"head {head}: {share:.1%}" for head, share in enumerate(shares)))


if __name__ == "__main__":
    main()
