"""An engine that says what it is told to, in this process: the service's routes are tested against it.

`ScriptedEngine(script)`: `script(request, plan)` returns the steps of a request: lists of tokens to emit together, an
EngineError to raise, or a Finish to end with (without one, the end is FinishReason.EOS).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable

from engine import Continuity, EngineError, EngineState
from engine.messages import Finish, FinishReason, Generate, ModelInfo, Output, Plan, Stats, Token

Step = list[Token] | EngineError | Finish
Script = Callable[[Generate, Plan | None], Iterable[Step]]

INFO = ModelInfo(
    model_type="scripted",
    vocab_size=256,
    max_positions=4096,
    eos_token_ids=[0],
    dtype="float32",
    device="cpu",
    page_size=16,
    pages=256,
    parameters=0,
)


def plain(*token_ids: int) -> list[Token]:
    """Tokens with unremarkable log-probs."""
    return [Token(token_id, -0.5, -0.5, 1.0) for token_id in token_ids]


class ScriptedEngine:
    """Implements `engine.Engine`; `requests` and `closed_early` tell what the service did."""

    def __init__(self, script: Script, info: ModelInfo = INFO) -> None:
        self.script = script
        self.info = info
        self.stats = Stats(pages_total=info.pages)
        self.state = EngineState.READY
        self.continuity = Continuity()
        self.requests: list[tuple[Generate, Plan | None]] = []
        self.closed_early: list[str] = []
        self.drained_s: float | None = None

    async def generate(self, request: Generate, plan: Plan | None = None) -> AsyncGenerator[Output, None]:
        self.requests.append((request, plan))
        first = 0
        try:
            for step in self.script(request, plan):
                if isinstance(step, EngineError):
                    raise step
                if isinstance(step, Finish):
                    yield Output(request_id=request.request_id, first=first, finish=step)
                    return
                yield Output(request_id=request.request_id, first=first, tokens=step)
                first += len(step)
            yield Output(request_id=request.request_id, first=first, finish=Finish(reason=FinishReason.EOS))
        except GeneratorExit:
            self.closed_early.append(request.request_id)
            raise

    async def close(self, drain_s: float = 0.0) -> None:
        self.state = EngineState.CLOSED
        self.drained_s = drain_s
