"""What do fewer bits cost, and what do they save? Each scheme beside the model as it is stored.

    OMP_NUM_THREADS=1 taskset -c 0 formwork bench quantization [MODEL] [--quantize fp8,torchao-int8]
    formwork bench quantization random-1b --answers 0 --device cuda     # a random Llama: speed and memory only

Accuracy, of the bundled model (or a MODEL with its chat template): perplexity of the answers to its held-out
extractions, the share of answer tokens that are still the likeliest, and the mean Kullback-Leibler divergence from the
unquantized model's distributions there. Memory: weights as they lie in memory (what a pass reads of them). Speed:
milliseconds of a decode step at context 192, best of 8, on a CPU those of one thread of the process. A scheme whose
package is missing is told and left out.
"""

import argparse
import gc
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
import transformers

from benchmarks.forward import best_ms, step
from benchmarks.random_llama import SHAPES, random_llama
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
        rows.append(F.log_softmax(runner.run(pack([piece], _PAGE)), -1).cpu())
    return torch.cat(rows)


def runner_of(model: str, name: str, device: str) -> ModelRunner:
    """On a CPU with one thread."""
    quantize = cast("QuantizeName", name)
    settings = RunnerConfig(path=model, quantize=quantize, device=device, threads=1, page_size=_PAGE, pages=1024)
    return ModelRunner(settings)


def accuracy(given: torch.Tensor, plain: torch.Tensor, wanted: torch.Tensor) -> str:
    """Three cells of the table."""
    perplexity = (-given[torch.arange(len(wanted)), wanted].mean()).exp()
    kept = (given.argmax(-1) == plain.argmax(-1)).float().mean()
    divergence = (plain.exp() * (plain - given)).sum(-1).mean()
    return f"{perplexity:.4f} | {100 * kept:.2f} % | {divergence:.5f}"


def decode_ms(runner: ModelRunner, sequences: int) -> float:
    """One step of each sequence's next token, in the time of the process or, on a GPU, in real time."""
    batch = step([1] * sequences, [192] * sequences)
    if runner.info.device == "cpu":
        return best_ms(lambda: runner.run(batch), 8)
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        began = time.perf_counter()
        runner.run(batch)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def report(options: argparse.Namespace, model: str) -> None:
    """Prints the table's lines."""
    texts = answers(options.answers)
    wanted = torch.tensor([token for text in texts for token in text.tokens[text.start :]], dtype=torch.long)
    print(f"{platform.processor() or platform.machine()}, {options.device}, torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}; {len(texts)} answers, {len(wanted)} tokens; seed 2026")
    print("| scheme | perplexity | likeliest kept | KL, nats | weights, MB | decode 1, ms | decode 16, ms |")
    print("|:--|--:|--:|--:|--:|--:|--:|", flush=True)
    plain: torch.Tensor | None = None
    for name in ["none", *options.quantize.split(",")]:
        try:
            runner = runner_of(model, name, options.device)
        except ModelError as error:
            print(f"| {name} | {error} |")
            continue
        cells = "– | – | –"
        if texts:
            given = log_probs(runner, texts)
            plain = given if plain is None else plain
            cells = accuracy(given, plain, wanted)
        print(f"| {name} | {cells} | {runner.info.weight_bytes / 1e6:.2f} ", end="")
        print(f"| {decode_ms(runner, 1):.2f} | {decode_ms(runner, 16):.2f} |", flush=True)
        del runner
        gc.collect()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="models/formwork-mini", help="a folder, or random-SHAPE")
    parser.add_argument("--quantize", default=_SCHEMES, help="comma-separated")
    parser.add_argument("--answers", type=int, default=100, help="0: no accuracy")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    shape = options.model.removeprefix("random-")
    if shape not in SHAPES:
        report(options, options.model)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(options, str(random_llama(Path(folder), shape, options.device)))


if __name__ == "__main__":
    main()
