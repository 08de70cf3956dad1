"""A house with a scripted engine: routes are tested against it in this process.

What it is for: `served(script)` yields an httpx client on the real application. The tokenizer is made here: one token a
byte, two special ones, a template of two lines. What may not enter: weights, sockets.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from engine import EngineConfig
from engine.messages import Finish, FinishReason, ModelInfo, Plan, Token
from grammar.errors import UnsupportedConstraint
from service.app import create_app, open_house
from service.compiling import CompiledConstraint, Compiler
from service.constraints import Constraint
from service.settings import Settings
from tests.engine.scripted import INFO, ScriptedEngine, Step

END = "<|end|>"
USER = "<|user|>"
TEMPLATE = (
    "{% for message in messages %}<|user|>{{ message['role'] }}: {{ message['content'] }}<|end|>{% endfor %}"
    "{% if response_format %}{{ response_format | tojson }}{% endif %}"
)


def make_tokenizer(folder: Path, template: str = TEMPLATE) -> Path:
    """A byte-level tokenizer of 256 bytes and two special tokens, in `folder`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(BPE({piece: index for index, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END, USER])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "chat_template": template}))
    return folder


def info(vocab_size: int = 258, **changes: Any) -> ModelInfo:
    """The scripted model's facts."""
    fields = {name: getattr(INFO, name) for name in INFO.__struct_fields__}
    return ModelInfo(**{**fields, "vocab_size": vocab_size, "eos_token_ids": [256], **changes})


class Bytes:
    """Text to tokens of the tokenizer above."""

    def __init__(self) -> None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        spelling = {byte: chr(byte) for byte in printable}
        spelling |= {byte: chr(0x100 + place) for place, byte in enumerate(others)}
        self._ids = {byte: alphabet.index(spelling[byte]) for byte in range(256)}

    def tokens(self, text: str | bytes, logprob: float = -0.5) -> list[Token]:
        data = text.encode() if isinstance(text, str) else text
        return [Token(self._ids[byte], logprob, logprob / 2, 0.75) for byte in data]


BYTES = Bytes()
EOS = Token(256, -0.1, -0.1, 1.0)


def saying(text: str, *, reason: FinishReason = FinishReason.EOS, size: int = 3) -> list[Step]:
    """A script that says the text, `size` tokens a step."""
    tokens = BYTES.tokens(text)
    steps: list[Step] = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    if reason is FinishReason.EOS:
        steps.append([EOS])
    return [*steps, Finish(reason=reason)]


class ScriptedCompiler(Compiler):
    """Starts no process. Any constraint compiles to an empty plan of least budget 5, but those that say "refused"."""

    ready = True

    async def start(self) -> None:
        pass

    async def compile(self, constraint: Constraint) -> CompiledConstraint:
        if "refused" in constraint.source:
            error = UnsupportedConstraint("refused", pointer="/properties/arguments/type", keyword="type")
            error.__dict__["param"] = constraint.param  # as the compiler does
            raise error
        return CompiledConstraint(constraint, Plan(constraint.key, b""), 5, 0.0, {"kind": constraint.kind})


@asynccontextmanager
async def served(
    folder: Path, steps: Iterable[Step] | ScriptedEngine, template: str = TEMPLATE, **settings: Any
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedEngine], None]:
    """A client of the application; each request is answered with `steps`. See ScriptedCompiler."""
    if isinstance(steps, ScriptedEngine):
        engine = steps
    else:
        script = list(steps)
        engine = ScriptedEngine(lambda _request, _plan: script, info())
    chosen = Settings(model=str(make_tokenizer(folder, template)), served_model_name="tiny,small", **settings)

    async def start(config: EngineConfig) -> ScriptedEngine:
        return engine

    app = create_app(chosen, start)
    async with open_house(chosen, start, ScriptedCompiler) as house:
        app.state.house = house
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, engine
