"""What do fewer bits cost, and what do they save? Each scheme beside the model as it is stored. One core.

    OMP_NUM_THREADS=1 taskset -c 0 python -m benchmarks.quantization [MODEL] [--quantize fp8,torchao-int8]

Accuracy, of the bundled model (or a MODEL with its chat template): perplexity of the answers to its held-out
extractions, the share of answer tokens that are still the likeliest, and the mean Kullback-Leibler divergence from the
unquantized model's distributions there. Memory: weights as they lie in memory (what a pass reads of them). Speed: CPU
milliseconds of a decode step at context 192, best of 8. A scheme whose package is missing is told and left out.
"""

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
import transformers

from benchmarks.forward import best_ms, step
from engine.batch import Piece, pack
from engine.config import QuantizeName
from engine.model import ModelError, ModelRunner, RunnerConfig
from models.training.batches import encoded, prompt_text
from models.training.data import held_out_extractions
from models.training.model import load_tokenizer

_PAGE = 16
_SCHEMES = "torchao-int8,torchao-int4,fp8,bitsandbytes,bitsandbytes-nf4,bitsandbytes-fp4"


@dataclass(frozen=True, slots=True)
class Answer:
    """A text whose tokens from `start` on are the answer."""

    tokens: list[int]
    start: int


def answers(count: int) -> list[Answer]:
    """Held-out extractions, each with the answer that is wanted."""
    tokenizer = load_tokenizer()
    found = []
    for example in held_out_extractions(count):
        prompt = encoded(tokenizer, prompt_text(tokenizer, example))
        found.append(Answer(prompt + encoded(tokenizer, example.answer), len(prompt)))
    return found


def log_probs(runner: ModelRunner, texts: Sequence[Answer]) -> torch.Tensor:
    """(all answers' tokens, vocabulary): what the model says where each of them is next."""
    rows = []
    for text in texts:
        piece = Piece(0, text.tokens[:-1], list(range(-(-len(text.tokens) // _PAGE))), len(text.tokens) - text.start)
        rows.append(F.log_softmax(runner.run(pack([piece], _PAGE)), -1))
    return torch.cat(rows)


def runner_of(model: str, name: str) -> ModelRunner:
    """On one thread of a CPU."""
    quantize = cast("QuantizeName", name)
    return ModelRunner(
        RunnerConfig(path=model, device="cpu", threads=1, page_size=_PAGE, pages=1024, quantize=quantize)
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="models/formwork-mini")
    parser.add_argument("--quantize", default=_SCHEMES, help="comma-separated")
    parser.add_argument("--answers", type=int, default=100)
    options = parser.parse_args(arguments)
    texts = answers(options.answers)
    wanted = torch.tensor([token for text in texts for token in text.tokens[text.start :]])
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, transformers ", end="")
    print(f"{transformers.__version__}; {len(texts)} answers, {len(wanted)} tokens; seed 2026")
    print("| scheme | perplexity | likeliest kept | KL, nats | weights, MB | decode 1, ms | decode 16, ms |")
    print("|:--|--:|--:|--:|--:|--:|--:|")
    plain: torch.Tensor | None = None
    for name in ["none", *options.quantize.split(",")]:
        try:
            runner = runner_of(options.model, name)
        except ModelError as error:
            print(f"| {name} | {error} |")
            continue
        given = log_probs(runner, texts)
        plain = given if plain is None else plain
        perplexity = -given[torch.arange(len(wanted)), wanted].mean()
        kept = (given.argmax(-1) == plain.argmax(-1)).float().mean()
        divergence = (plain.exp() * (plain - given)).sum(-1).mean()
        times = []
        for count in (1, 16):
            batch = step([1] * count, [192] * count)
            times.append(best_ms(lambda batch=batch, runner=runner: runner.run(batch), 8))  # type: ignore[misc]
        print(f"| {name} | {perplexity.exp():.4f} | {100 * kept:.2f} % | {divergence:.5f} ", end="")
        print(f"| {runner.info.weight_bytes / 1e6:.2f} | {times[0]:.2f} | {times[1]:.2f} |")


if __name__ == "__main__":
    main()
