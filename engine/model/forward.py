"""One call of the model: packed tokens and a step in, logits of the wanted rows out.

What it is for: the only place that knows how a step travels through transformers' forward pass. What may not enter:
devices, caches, batches.
"""

from __future__ import annotations

import inspect

import torch
from transformers import PreTrainedModel

from engine.model.adapters import Passenger, adapt
from engine.model.attention import AttentionCall, AttentionStep
from engine.model.errors import UnsupportedModel
from engine.model.memory import LayerShape
from engine.model.parallel import Group, whole_columns


class ForwardPass:
    """A loaded model, ready for steps."""

    def __init__(self, model: PreTrainedModel, group: Group | None = None) -> None:
        self._model = model
        self._group = group
        known = inspect.signature(type(model).forward).parameters
        # transformers 5.24 gave the argument its new name.
        self._name = ("cache" if "cache" in known else "past_key_values") if adapt(model) else "paged"

    def __call__(
        self, token_ids: torch.Tensor, positions: torch.Tensor, logit_rows: torch.Tensor, step: AttentionStep
    ) -> torch.Tensor:
        """Float32 logits (R, vocabulary), contiguous; on ranks other than the first (0, vocabulary)."""
        travelling = {self._name: step if self._name == "paged" else Passenger(step)}
        # Not inference_mode: the sampler writes into the logits, which an inference tensor forbids.
        with torch.no_grad():
            output = self._model(
                input_ids=token_ids[None],
                position_ids=positions[None],
                use_cache=False,
                logits_to_keep=logit_rows,
                **travelling,
            )
        logits: torch.Tensor = output.logits[0].float()
        vocabulary: int = self._model.config.get_text_config().vocab_size
        return logits if self._group is None else whole_columns(logits, vocabulary, self._group)

    def layer_shapes(self) -> list[LayerShape]:
        """Per layer, what it stores per token; refuses models that keep state anywhere else."""
        probe = _Probe()
        zero = torch.zeros(1, dtype=torch.long, device=self._model.device)
        self(zero, zero, zero, probe)
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
