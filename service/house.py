"""What every route shares: one frozen value, built in `service.app`.

What it is for: a handle on settings, engine, tokenizer, template, compiler, watermark, gate and metrics. What may not
enter: behaviour of routes.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from engine import Engine
from engine.messages import ModelInfo
from engine.tokenizer import Tokenizer
from service.access import Allowances, Gate, Keys
from service.adapters import Shelf
from service.archive import Archive
from service.body import Reception
from service.chat import ChatTemplate
from service.compiling import Compiler
from service.errors import ModelNotFound, TemplateFailure
from service.families import CallForm, ThoughtForm
from service.marking import Marker
from service.metrics import Metrics
from service.names import Names
from service.pace import Pace
from service.settings import Settings
from service.tracing import Tracing

VERSION = "0.1.0"
_LONGEST_WAIT_S = 60.0
_ALIASES = frozenset({"default", "tgi", "dummy"})  # the last is what huggingface_hub sends when told no name


@dataclass(frozen=True)
class House:
    settings: Settings
    engine: Engine
    tokenizer: Tokenizer
    template: ChatTemplate | None
    compiler: Compiler
    marker: Marker
    keys: Keys
    gate: Gate
    reception: Reception
    allowances: Allowances
    metrics: Metrics
    names: Names
    pace: Pace
    archive: Archive
    adapters: Shelf
    tracing: Tracing
    call_form: CallForm
    thought_form: ThoughtForm | None
    started_at: int  # Unix time, as the API tells it

    @property
    def context_length(self) -> int:
        """Prompt and output together."""
        return context_length(self.settings, self.engine.info)

    @property
    def fingerprint(self) -> str:
        """OpenAI's system_fingerprint: changes when what is served changes."""
        info = self.engine.info
        parts = (VERSION, self.tokenizer.fingerprint, info.model_type, info.dtype, info.quantize, str(info.parameters))
        return "fp_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    @property
    def served_names(self) -> list[str]:
        """Under which the model is served, its adapters' too."""
        return [*self.settings.model_names, *self.adapters]

    def model_named(self, name: str | None) -> str:
        """The name to answer with; raises ModelNotFound."""
        names = self.served_names
        if name is None or name in _ALIASES:
            return names[0]
        if name in names or name == self.settings.model:
            return name
        served = ", ".join(names)
        raise ModelNotFound(f"the model {name[:200]!r} is not served here; served: {served[:1000]}", param="model")

    def retry_after_s(self) -> float:
        """When to come again: after twice the median wait of the last minute, later where many come for one place.

        Evenly spread over the time that serving all of them would take, so that they do not come at once, nor again
        and again. Clients' libraries obey up to a minute, and fall back to less beyond.
        """
        wait_s = max(1.0, 2 * self.engine.stats.queue_s_p50)
        return min(_LONGEST_WAIT_S, wait_s * random.uniform(1.0, max(1.5, 2 * self.gate.crowd - 1)))

    def chat_template(self) -> ChatTemplate:
        if self.template is None:
            raise TemplateFailure("this model has no chat template; use /v1/completions or start with --chat-template")
        return self.template


def context_length(settings: Settings, info: ModelInfo) -> int:
    """Prompt and output together: what model, cache and operator allow."""
    own = min(info.max_positions, info.pages * info.page_size)
    return min(own, settings.max_model_len) if settings.max_model_len else own
