"""engine.model: the forward pass. Loads a transformers causal LM and runs step batches over a paged KV cache."""

from engine.model.config import RunnerConfig
from engine.model.errors import BrokenModel, ModelError, UnsupportedModel
from engine.model.runner import ModelRunner, default_page_size

__all__ = ["BrokenModel", "ModelError", "ModelRunner", "RunnerConfig", "UnsupportedModel", "default_page_size"]
