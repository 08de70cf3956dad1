"""engine.model: the forward pass. Loads a transformers causal LM and runs step batches over a paged KV cache."""

from engine.logs import hush_imports

hush_imports()

from engine.model.config import RunnerConfig  # noqa: E402  # the next ones import transformers
from engine.model.errors import BrokenModel, ModelError, UnsupportedModel  # noqa: E402
from engine.model.runner import ModelRunner, default_page_size  # noqa: E402

__all__ = ["BrokenModel", "ModelError", "ModelRunner", "RunnerConfig", "UnsupportedModel", "default_page_size"]
