"""A house with a scripted engine: routes are tested against it in this process.

What it is for: `served(script)` yields an httpx client on the real application. The tokenizer is made here: one token a
byte, two special ones, a template of two lines. `Says` is the engine for messages with parts: what it is told to say
must be legal under the plan it was given. What may not enter: weights, sockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from engine import EngineConfig
from engine.messages import Finish, FinishReason, ModelInfo, Plan, Token
from grammar import GrammarError, UnsupportedConstraint, Vocabulary, compile_tools, load_grammar, words_of
from service.app import create_app, open_house
from service.compiling import CompiledConstraint, Compiler
from service.constraints import Constraint, ConstraintKind
from service.settings import Settings
from tests.engine.scripted import INFO, ScriptedEngine, Step

END = "<|eos|>"
USER = "<|user|>"
TEMPLATE = (
    "{% for message in messages %}<|user|>{{ message['role'] }}: {{ message['content'] }}<|eos|>{% endfor %}"
    "{% if response_format %}{{ response_format | tojson }}{% endif %}"
)


def make_tokenizer(folder: Path, template: str = TEMPLATE, special: Sequence[str] = ()) -> Path:
    """A byte-level tokenizer of 256 bytes and two special tokens or more, in `folder`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(BPE({piece: index for index, piece in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END, USER, *special])
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
        self._bytes = {place: bytes([byte]) for byte, place in self._ids.items()}

    def spelled(self, token_id: int) -> bytes:
        """The byte of a token; nothing for special ones."""
        return self._bytes.get(token_id, b"")

    def marked(self, text: str, special: Sequence[str]) -> list[Token]:
        """Likewise, where `special` are the special tokens' names beside the usual two."""
        parts = re.split("(" + "|".join(map(re.escape, special)) + ")", text) if special else [text]
        found: list[Token] = []
        for part in parts:
            found += [Token(258 + special.index(part), -0.5, -0.25, 0.75)] if part in special else self.tokens(part)
        return found

    def tokens(self, text: str | bytes, logprob: float = -0.5) -> list[Token]:
        data = text.encode() if isinstance(text, str) else text
        return [Token(self._ids[byte], logprob, logprob / 2, 0.75) for byte in data]


BYTES = Bytes()
EOS = Token(256, -0.1, -0.1, 1.0)


def bytes_of(prompt: Sequence[int]) -> bytes:
    """The text of tokens, special ones left out."""
    return b"".join(BYTES.spelled(token) for token in prompt)


def saying(text: str, *, reason: FinishReason = FinishReason.EOS, size: int = 3) -> list[Step]:
    """A script that says the text, `size` tokens a step."""
    tokens = BYTES.tokens(text)
    steps: list[Step] = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    if reason is FinishReason.EOS:
        steps.append([EOS])
    return [*steps, Finish(reason=reason)]


class Says(ScriptedEngine):
    """Says the messages in turn, `size` tokens a step, then draws an end token; a number of tokens cuts a message.

    A message must be legal under the plan of its request, if that is a real one, and complete unless it is cut.
    """

    def __init__(self, *messages: str, special: Sequence[str] = (), size: int = 3, cut: int | None = None) -> None:
        super().__init__(lambda _request, plan: self.play(plan), info(258 + len(special)))
        self.messages = list(messages)
        self.special = tuple(special)
        self.size = size
        self.cut = cut

    def play(self, plan: Plan | None) -> list[Step]:
        tokens = BYTES.marked(self.messages.pop(0), self.special)[: self.cut]
        if plan is not None and plan.data:
            matcher = load_grammar(plan.data, self.vocabulary).matcher()
            for place, token in enumerate(tokens):
                assert matcher.advance(token.token_id), (
                    place,
                    b"".join(self.vocabulary.tokens[t.token_id] for t in tokens),
                )
            assert matcher.is_accepting or self.cut is not None
        steps: list[Step] = [tokens[start : start + self.size] for start in range(0, len(tokens), self.size)]
        return [*steps, *([[EOS]] if self.cut is None else []), Finish(reason=FinishReason.EOS)]

    @property
    def vocabulary(self) -> Vocabulary:
        spelled = tuple(BYTES.spelled(token) for token in range(256)) + (b"",) * (2 + len(self.special))
        names = {END: 256, USER: 257, **{name: 258 + place for place, name in enumerate(self.special)}}
        return known_vocabulary(spelled, tuple(names.items()))

    def prompts(self) -> list[bytes]:
        """The prompts it was given, special tokens left out."""
        return [bytes_of(request.prompt) for request, _ in self.requests]


@lru_cache
def known_vocabulary(tokens: tuple[bytes, ...], special: tuple[tuple[str, int], ...]) -> Vocabulary:
    return Vocabulary(tokens, [256], dict(special))


class ScriptedCompiler(Compiler):
    """Starts no process. Messages compile as they are; other constraints to an empty plan of least budget 5.

    Those that say "refused" are.
    """

    ready = True

    async def start(self) -> None:
        pass

    async def compile(self, constraint: Constraint, tenant: str = "") -> CompiledConstraint:  # noqa: ARG002
        if constraint.kind is not ConstraintKind.TOOLS and "refused" in constraint.source:
            error = UnsupportedConstraint("refused", pointer="/properties/arguments/type", keyword="type")
            error.__dict__["param"] = constraint.param  # as the compiler does
            raise error
        if constraint.kind is ConstraintKind.TOOLS:
            return self._message(constraint)
        return CompiledConstraint(constraint, Plan(constraint.key, b""), 5, 0.0, {"kind": constraint.kind})

    async def list_words(self, regex: str, most: int, param: str, tenant: str = "") -> list[str]:  # noqa: ARG002
        try:
            return words_of(regex, most)
        except GrammarError as error:
            error.__dict__["param"] = param
            raise

    def _message(self, constraint: Constraint) -> CompiledConstraint:
        made = self._setup
        vocabulary = known_vocabulary(tuple(made.tokens), tuple(made.special_tokens.items()))
        options = json.loads(constraint.options)
        grammar = compile_tools(json.loads(constraint.source), vocabulary, **options)
        plan = Plan(constraint.key, grammar.to_bytes())
        return CompiledConstraint(constraint, plan, grammar.least_budget, 0.0, {"kind": constraint.kind})


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
    special = engine.special if isinstance(engine, Says) else ()
    chosen = Settings(model=str(make_tokenizer(folder, template, special)), served_model_name="tiny,small", **settings)

    async def start(config: EngineConfig) -> ScriptedEngine:
        return engine

    app = create_app(chosen, start)
    async with open_house(chosen, start, ScriptedCompiler) as house:
        app.state.house = house
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, engine
