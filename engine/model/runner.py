"""Executes steps: a packed batch in, logits of the wanted rows out.

What it is for: owns the model and its cache, and is the only place that calls the forward pass. What may not enter:
requests, scheduling, sampling. Single-threaded: only the engine loop calls it.
"""

from __future__ import annotations

import torch

from engine.batch import StepBatch
from engine.messages import ModelInfo
from engine.model.adapters import Passenger, adapt
from engine.model.attention import AttentionCall, AttentionStep
from engine.model.config import RunnerConfig
from engine.model.cpu_attention import CpuCache, CpuStep, LayerShape
from engine.model.errors import UnsupportedModel
from engine.model.linear import pack_linears
from engine.model.loading import eos_token_ids, load_config, load_model, max_positions

_DEFAULT_PAGES = 512


class ModelRunner:
    """A transformers causal LM over a paged cache; implements `engine.batch.Runner`."""

    def __init__(self, config: RunnerConfig) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        model_config = load_config(config.path, config.revision)
        self._model = load_model(config.path, model_config, torch.float32, config.revision)
        vocab_size = self._model.get_output_embeddings().weight.shape[0]
        parameters = sum(p.numel() for p in self._model.parameters())
        pack_linears(self._model)
        self._step_name = "past_key_values" if adapt(self._model) else "paged"
        layers = self._cache_shapes()
        pages = config.pages or _DEFAULT_PAGES
        self._cache = CpuCache(layers, pages, config.page_size)
        self.info = ModelInfo(
            model_type=model_config.model_type,
            vocab_size=vocab_size,
            max_positions=min(max_positions(model_config), pages * config.page_size),
            eos_token_ids=eos_token_ids(self._model),
            dtype="float32",
            device="cpu",
            page_size=config.page_size,
            pages=pages,
            parameters=parameters,
        )

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Logits, float32, (R, vocab_size); valid until the next `run`."""
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.from_numpy(batch.token_ids)[None],
                position_ids=torch.from_numpy(batch.positions)[None],
                use_cache=False,
                logits_to_keep=torch.from_numpy(batch.logit_rows),
                **self._travelling(CpuStep(self._cache, batch)),
            )
            logits: torch.Tensor = output.logits[0].float()
            return logits

    def copy_page(self, source: int, target: int) -> None:
        """Copies the keys and values of one page in every layer."""
        self._cache.copy_page(source, target)

    def _travelling(self, step: AttentionStep) -> dict[str, AttentionStep | Passenger]:
        return {self._step_name: Passenger(step) if self._step_name == "past_key_values" else step}

    def _cache_shapes(self) -> list[LayerShape]:
        """Per layer, what it stores per token; refuses models that keep state anywhere else."""
        probe = _Probe()
        zero = torch.zeros((1, 1), dtype=torch.long)
        with torch.inference_mode():
            self._model(input_ids=zero, position_ids=zero, use_cache=False, **self._travelling(probe))
        layers: int = self._model.config.num_hidden_layers
        if sorted(probe.shapes) != list(range(layers)):
            raise UnsupportedModel(f"only layers {sorted(probe.shapes)} of {layers} attend through the attention interface")
        return [probe.shapes[layer] for layer in range(layers)]


class _Probe:
    """Stands in for the cache once, to learn what each layer stores."""

    def __init__(self) -> None:
        self.shapes: dict[int, LayerShape] = {}

    def attend(self, call: AttentionCall) -> torch.Tensor:
        self.shapes[call.layer] = LayerShape(call.key.shape[1], call.key.shape[2], call.value.shape[2])
        return call.query.new_zeros((*call.query.shape[:2], call.value.shape[2]))
