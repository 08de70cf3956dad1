"""Constrained-decoding engines behind one small interface, for `benchmarks/grammar.py`.

An engine compiles a schema (raising whatever it raises when it refuses) and starts generations; a generation fills the
engine's one mask row and takes tokens. Peers run with the settings that follow the specification most closely.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.int32]
END = 2  # "</s>" of the Tekken vocabularies
DATED = "tekken_240911.json"


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A real vocabulary of 131,072 tokens and the encoder that belongs to it; special ids come first."""

    tokens: list[bytes]
    special: int
    encoding: Any
    pattern: str

    def encode(self, text: str) -> list[int]:
        """Token ids; nothing in the text is read as a special token."""
        return [token + self.special for token in self.encoding.encode(text, disallowed_special=())]


def load_tokenizer() -> Tokenizer:
    """From the mistral-common package: no network."""
    import tiktoken  # noqa: PLC0415  (an optional extra)

    raw = json.loads(files("mistral_common").joinpath("data", DATED).read_text(encoding="utf-8"))
    config = raw["config"]
    special = int(config["default_num_special_tokens"])
    texts = raw["vocab"][: int(config["default_vocab_size"]) - special]
    ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) for entry in texts}
    tokens = [b""] * special + sorted(ranks, key=lambda token: ranks[token])
    pattern = str(config["pattern"])
    encoding = tiktoken.Encoding(name="tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return Tokenizer(tokens, special, encoding, pattern)


class Generation(Protocol):
    """One generation under way."""

    def mask(self) -> object:
        """Fill the engine's row."""

    def take(self, token: int) -> bool:
        """Whether the token was accepted."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A generation as two functions, so that nothing but the engine's own calls is timed."""

    mask: Callable[[], object]
    take: Callable[[int], bool]
    broken: Callable[[], str] = str


Start = Callable[[], Steps]


class Engine(Protocol):
    """What the benchmark needs of an engine."""

    name: str
    settings: str

    def compile(self, schema: Any) -> Start:
        """Raises when the schema is refused."""


def empty_row(tokenizer: Tokenizer) -> Row:
    """One mask row."""
    return np.zeros((len(tokenizer.tokens) + 31) // 32, np.int32)


class Formwork:
    """This project, with its defaults."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        import grammar  # noqa: PLC0415  (only the engine asked for is loaded)

        self.name, self.settings = f"formwork {version('formwork')}", "defaults"
        self.row, self.room = row, grammar
        self.vocabulary = grammar.Vocabulary(tokenizer.tokens, [END])
        grammar.warm(self.vocabulary)

    def compile(self, schema: Any) -> Start:
        return self.starting(self.room.compile_json_schema(schema, self.vocabulary))

    def starting(self, compiled: Any) -> Start:
        """Starts generations over a compiled grammar of any kind."""

        def start() -> Steps:
            matcher = compiled.matcher()
            return Steps(lambda: matcher.fill_mask(self.row), matcher.advance)

        return start


class LLGuidance:
    """Default options; a new generation is a deep copy, which shares the lexer's states."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        import llguidance  # noqa: PLC0415

        self.name, self.settings = f"llguidance {version('llguidance')}", "default options"
        self.library, self.row = llguidance, row
        names = {f"<special {i}>": i for i in range(tokenizer.special)}
        names.pop(f"<special {END}>")
        texts = {token: i for i, token in enumerate(tokenizer.tokens) if i >= tokenizer.special}
        maker: Any = llguidance.LLTokenizer  # its stub lacks from_tiktoken
        self.tokenizer = maker.from_tiktoken(
            encoder=texts,
            special_tokens={**names, "</s>": END},
            pattern=tokenizer.pattern,
            eos_token=END,
            n_vocab=len(tokenizer.tokens),
        )

    def compile(self, schema: Any) -> Start:
        source = json.dumps({"grammars": [{"json_schema": schema}]})
        first = self.library.LLMatcher(self.tokenizer, source, log_level=0)
        if first.is_error():
            raise ValueError(first.get_error())
        address, size = self.row.ctypes.data, self.row.nbytes

        def start() -> Steps:
            matcher = first.deep_copy()

            def broken() -> str:
                reason = str(matcher.stop_reason())
                return reason if "TooComplex" in reason else ""

            return Steps(lambda: matcher.unsafe_compute_mask_ptr(address, size), matcher.consume_token, broken)

        return start


class XGrammar:
    """Specification-compliant mode, one thread."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        import xgrammar  # noqa: PLC0415

        self.name, self.settings = f"xgrammar {version('xgrammar')}", "any_whitespace, strict_mode=False, one thread"
        self.library, self.rows = xgrammar, row.reshape(1, -1)
        info = xgrammar.TokenizerInfo(tokenizer.tokens, vocab_size=len(tokenizer.tokens), stop_token_ids=[END])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def compile(self, schema: Any) -> Start:
        compiled = self.compiler.compile_json_schema(json.dumps(schema), any_whitespace=True, strict_mode=False)

        def start() -> Steps:
            matcher = self.library.GrammarMatcher(compiled)
            return Steps(lambda: matcher.fill_next_token_bitmask(self.rows), matcher.accept_token)

        return start


class OutlinesCore:
    """Schema to regex to index, with its own defaults."""

    def __init__(self, tokenizer: Tokenizer, row: Row) -> None:
        import outlines_core  # noqa: PLC0415
        from outlines_core.json_schema import build_regex_from_schema  # noqa: PLC0415

        self.name, self.settings = f"outlines-core {version('outlines-core')}", "build_regex_from_schema defaults"
        self.library, self.to_regex, self.row = outlines_core, build_regex_from_schema, row
        texts = {token: [i] for i, token in enumerate(tokenizer.tokens) if i >= tokenizer.special}
        self.vocabulary = outlines_core.Vocabulary(END, texts)

    def compile(self, schema: Any) -> Start:
        index = self.library.Index(self.to_regex(json.dumps(schema)), self.vocabulary)

        def start() -> Steps:
            guide = self.library.Guide(index)

            def take(token: int) -> bool:
                try:
                    guide.advance(token, False)
                except ValueError:
                    return False
                return True

            return Steps(lambda: guide.write_mask_into(self.row.ctypes.data, self.row.size, 4), take)

        return start


ENGINES: dict[str, Callable[[Tokenizer, Row], Engine]] = {
    "formwork": Formwork,
    "llguidance": LLGuidance,
    "xgrammar": XGrammar,
    "outlines-core": OutlinesCore,
}
