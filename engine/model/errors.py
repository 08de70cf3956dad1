"""What stops a model from being served, told before the first request.

    ModelError
    ├── UnsupportedModel   the architecture, quantization or file format is one that Formwork refuses
    └── BrokenModel        the folder lacks something, or what is in it contradicts itself

These end the engine's start, not a request: the operator reads them.
"""

from __future__ import annotations


class ModelError(Exception):
    """The model cannot be served; the message names what, where, and what would be accepted."""


class UnsupportedModel(ModelError):
    """Formwork does not serve this kind of model."""


class BrokenModel(ModelError):
    """The model's files are missing or contradict each other."""
