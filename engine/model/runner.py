"""Executes steps: a packed batch in, logits of the wanted rows out.

What it is for: owns the model and its cache, and is the only place that calls the forward pass. What may not enter:
requests, scheduling, sampling. Single-threaded: only the engine loop calls it.
"""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from engine.batch import StepBatch
from engine.messages import ModelInfo
from engine.model.adapters import Passenger, adapt
from engine.model.attention import AttentionCall, AttentionStep
from engine.model.config import RunnerConfig
from engine.model.cpu_attention import CpuBackend, stored_shape
from engine.model.errors import UnsupportedModel
from engine.model.linear import pack_linears
from engine.model.loading import choose_dtype, eos_token_ids, load_config, load_model, max_positions
from engine.model.memory import LayerShape, free_cpu_bytes, page_bytes, page_count, usable_cores
from engine.model.rows import stabilize_activations

_log = logging.getLogger(__name__)

_SMALL_HIDDEN = 512  # up to this width a second thread costs more than it gives


class Backend(Protocol):
    """A device's cache and attention."""

    def step(self, batch: StepBatch) -> AttentionStep:
        """What travels with one forward pass."""
        ...

    def copy_page(self, source: int, target: int) -> None:
        """Copies one page in every layer."""
        ...


class ModelRunner:
    """A transformers causal LM over a paged cache; implements `engine.batch.Runner`."""

    def __init__(self, config: RunnerConfig) -> None:
        device = _device(config.device)
        settings = load_config(config.path, config.revision)
        threads = config.threads or (1 if settings.hidden_size <= _SMALL_HIDDEN else usable_cores())
        if device.type == "cpu":
            torch.set_num_threads(threads)
        dtype = choose_dtype(config.dtype, settings, device)
        self._model = load_model(config.path, settings, dtype, config.revision)
        vocab_size, parameters = _size(self._model)
        self._by_cache_argument = adapt(self._model)
        layers = self._layer_shapes()
        pack_linears(self._model)
        stabilize_activations(self._model)
        one = page_bytes([stored_shape(s) for s in layers], config.page_size, 4)
        pages = page_count(config, one, free_cpu_bytes(), device=device.type)
        self._backend: Backend = CpuBackend(layers, pages, config.page_size, threads)
        self.info = ModelInfo(
            model_type=settings.model_type,
            vocab_size=vocab_size,
            max_positions=min(max_positions(settings), pages * config.page_size),
            eos_token_ids=eos_token_ids(self._model),
            dtype=str(dtype).removeprefix("torch."),
            device=str(device),
            page_size=config.page_size,
            pages=pages,
            parameters=parameters,
        )
        self.run(_warm_batch(config.page_size))
        _log.info("%s: %d parameters, %d pages of %d tokens", settings.model_type, parameters, pages, config.page_size)

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Logits, float32, (R, vocab_size), contiguous and the caller's to change; R may be 0."""
        # Not inference_mode: the sampler writes into the logits, which an inference tensor forbids.
        with torch.no_grad():
            output = self._model(
                input_ids=torch.from_numpy(batch.token_ids)[None],
                position_ids=torch.from_numpy(batch.positions)[None],
                use_cache=False,
                logits_to_keep=torch.from_numpy(batch.logit_rows),
                **self._travelling(self._backend.step(batch)),
            )
            logits: torch.Tensor = output.logits[0].float()
            return logits

    def copy_page(self, source: int, target: int) -> None:
        """Copies the keys and values of one page in every layer."""
        self._backend.copy_page(source, target)

    def _travelling(self, step: AttentionStep) -> dict[str, AttentionStep | Passenger]:
        return {"past_key_values": Passenger(step)} if self._by_cache_argument else {"paged": step}

    def _layer_shapes(self) -> list[LayerShape]:
        """Per layer, what it stores per token; refuses models that keep state anywhere else."""
        probe = _Probe()
        zero = torch.zeros((1, 1), dtype=torch.long)
        with torch.no_grad():
            self._model(input_ids=zero, position_ids=zero, use_cache=False, **self._travelling(probe))
        layers: int = self._model.config.num_hidden_layers
        if sorted(probe.shapes) != list(range(layers)):
            raise UnsupportedModel(
                f"{self._model.config.model_type}: {len(probe.shapes)} of {layers} layers attend through the "
                "interface; a layer that keeps state elsewhere, or shares another's, is not served"
            )
        return [probe.shapes[layer] for layer in range(layers)]


class _Probe:
    """Stands in for the cache once, to learn what each layer stores."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}

    def attend(self, call: AttentionCall) -> torch.Tensor:
        self.shapes[call.layer] = LayerShape(call.key.shape[1], call.key.shape[2], call.value.shape[2])
        return call.query.new_zeros((*call.query.shape[:2], call.value.shape[2]))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cpu":
        raise UnsupportedModel(f"device {name} is not served")
    return device


def _size(model: PreTrainedModel) -> tuple[int, int]:
    """(width of a logits row, parameters)."""
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    weight: torch.Tensor = head.weight  # type: ignore[assignment]
    return weight.shape[0], sum(p.numel() for p in model.parameters())


def _warm_batch(page_size: int) -> StepBatch:
    """Three tokens of one sequence in page 0: compiles every kernel, so that none is compiled for a request."""
    rows = np.arange(min(3, page_size), dtype=np.int64)
    count = len(rows)
    return StepBatch(
        token_ids=np.zeros(count, np.int64),
        positions=rows,
        query_starts=np.array([0, count], np.int32),
        context_lengths=np.array([count], np.int32),
        page_table=np.zeros((1, 1), np.int32),
        slots=rows,
        logit_rows=rows[-1:],
    )
