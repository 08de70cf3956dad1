"""Text ↔ token ids, and the exact bytes of each token.

What it is for: the API process (which imports neither torch nor transformers) and the engine read the same folder:
tokenizer.json with what stands beside it. What may not enter: chat templates' rendering, grammars' rules, HTTP.

The idea: a token's bytes do not depend on its neighbours, so they are found once, from its spelling in the
vocabulary: by the byte alphabet of byte-level BPE, or by SentencePiece's rules (▁ is a blank, <0x0A> is that byte).
Special and padding ids spell nothing: b"". A vocabulary of pieces that hide what stood between them (WordPiece's ##)
is refused.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from engine.borders import word_starts

_LONG_TEXT = 2000  # characters
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerError(ValueError):
    """The folder has no tokenizer that Formwork can serve; the message says why."""


class Tokenizer:
    """A tokenizer.json and its companions, loaded. Immutable; safe to share between threads."""

    def __init__(self, backend: Any, settings: _Settings, source: bytes) -> None:
        self._backend = backend
        self._settings = settings
        self._source = source

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Reads tokenizer.json, tokenizer_config.json, generation_config.json, config.json and chat_template.jinja."""
        place = Path(folder)
        path = place / "tokenizer.json"
        try:
            source = path.read_bytes()
            backend = tokenizers.Tokenizer.from_str(source.decode())
        except OSError as error:
            raise TokenizerError(
                f"cannot read {path}: {error.strerror}; a fast tokenizer (tokenizer.json) is needed"
            ) from error
        except Exception as error:  # the tokenizers library raises nothing more precise
            raise TokenizerError(f"{path} is not a tokenizer: {error}") from error
        backend.no_truncation()
        backend.no_padding()
        return cls(backend, _Settings.read(place, backend), source)

    @property
    def size(self) -> int:
        """Ids that the tokenizer knows; a model's logits may be wider."""
        return len(self._pieces)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The ids that end a generation: the one set that grammar, sampler and stream read."""
        return self._settings.eos_token_ids

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that mean something other than text."""
        return self._settings.special_ids

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Special ids by how the vocabulary spells them: what grammars may ask for by name."""
        return {self._pieces[index]: index for index in sorted(self.special_ids) if index < self.size}

    @property
    def chat_template(self) -> str | None:
        return self._settings.chat_template

    @property
    def bos_token(self) -> str | None:
        return self._settings.bos_token

    @property
    def eos_token(self) -> str | None:
        return self._settings.eos_token

    @cached_property
    def fingerprint(self) -> str:
        """Names the tokenizer by its content."""
        digest = hashlib.sha256(self._source)
        digest.update(json.dumps(self.eos_token_ids).encode())
        return digest.hexdigest()[:32]

    def encode(self, text: str, *, special: bool = False, add_bos: bool = False) -> list[int]:
        """Token ids.

        `special`: special tokens spelled in the text become their ids, as a rendered chat template means it; else all
        of it is plain text, whatever it spells. `add_bos`: with what the tokenizer itself puts around a text.
        """
        backend = self._backend if special else self._plain
        if len(text) < _LONG_TEXT:
            ids: list[int] = backend.encode(text, add_special_tokens=add_bos).ids
        else:  # `encode` keeps the GIL to its end, and with it every other thread; a batch gives it back
            ids = backend.encode_batch_fast([text], add_special_tokens=add_bos)[0].ids
        return ids

    def is_longer(self, text: str, tokens: int) -> bool:
        """Whether a text has more than so many tokens beyond doubt; True only where a beginning of it shows that.

        A megabyte of blanks is a million tokens and takes seconds to cut: whoever cannot use them need not wait.
        """
        beginning = text[: 16 * tokens]
        return len(beginning) < len(text) and len(self.encode(beginning)) > 2 * tokens

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of these tokens, special ones left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(token_id) for token_id in token_ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one token; b"" for special and padding ids."""
        return self.vocabulary_bytes[token_id] if token_id < self.size else b""

    def token_text(self, token_id: int) -> str:
        """How the vocabulary itself spells a token; for showing special ones."""
        if token_id in self.special_ids or token_id >= self.size:
            return self._pieces[token_id] if token_id < self.size else ""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    @cached_property
    def vocabulary_bytes(self) -> list[bytes]:
        """The bytes of each id, in order."""
        spell = _spelling(json.loads(self._source))
        added = self._settings.added
        return [
            b""
            if index in self.special_ids
            else added[index].encode()
            if index in added
            else spell(piece)
            if piece
            else b""
            for index, piece in enumerate(self._pieces)
        ]

    @cached_property
    def word_starts(self) -> frozenset[int]:
        """Ids of tokens that begin a word whatever stands before them; see `borders`."""
        return word_starts(self._plain, self.vocabulary_bytes)

    def padded_bytes(self, width: int) -> list[bytes]:
        """`vocabulary_bytes` for a row of `width` logits: what `grammar.Vocabulary` takes. Raises TokenizerError."""
        if width < self.size and any(self.vocabulary_bytes[width:]):
            raise TokenizerError(f"the tokenizer has {self.size} tokens, the model's logits only {width}")
        return (self.vocabulary_bytes + [b""] * (width - self.size))[:width]

    @cached_property
    def _pieces(self) -> list[str]:
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        pieces = [""] * (1 + max(vocabulary.values(), default=-1))
        for piece, index in vocabulary.items():
            pieces[index] = piece
        return pieces

    @cached_property
    def _plain(self) -> Any:
        """The same tokenizer without its special tokens' spellings: users' text cannot speak as the system."""
        backend = tokenizers.Tokenizer.from_str(self._source.decode())
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return backend


class Detokenizer:
    """Bytes in, complete characters out: what of a stream can already be shown."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        """The characters that these bytes complete."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What is left when the stream has ended: U+FFFD for an unfinished character."""
        return self._decoder.decode(b"", final=True)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What stands beside tokenizer.json."""

    eos_token_ids: tuple[int, ...]
    special_ids: frozenset[int]
    added: dict[int, str]  # added tokens that are text
    chat_template: str | None
    bos_token: str | None
    eos_token: str | None

    @classmethod
    def read(cls, folder: Path, backend: Any) -> _Settings:
        config = _json(folder / "tokenizer_config.json")
        added: dict[int, Any] = backend.get_added_tokens_decoder()
        special = {index for index, token in added.items() if token.special}
        eos_token = _token_text(config.get("eos_token"))
        ends = _end_ids(folder, backend, eos_token)
        return cls(
            eos_token_ids=ends,
            special_ids=frozenset(special | set(ends)),
            added={
                index: token.content for index, token in added.items() if index not in special and index not in ends
            },
            chat_template=_chat_template(folder, config),
            bos_token=_token_text(config.get("bos_token")),
            eos_token=eos_token,
        )


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path} holds no object")
    return value


def _token_text(value: Any) -> str | None:
    """Token settings are a string or an object with `content`."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _end_ids(folder: Path, backend: Any, eos_token: str | None) -> tuple[int, ...]:
    """The generation config's ids, else the model config's; and the tokenizer's own end token in any case."""
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = _json(folder / name).get("eos_token_id")
        ids += [value] if isinstance(value, int) else list(value or [])
        if ids:
            break
    own = backend.token_to_id(eos_token) if eos_token is not None else None
    return tuple(dict.fromkeys(ids + ([own] if own is not None else [])))


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    """A file of its own wins over the setting; of several named ones, the default."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {item["name"]: item["template"] for item in template}.get("default")
    return template if isinstance(template, str) else None


def _spelling(data: dict[str, Any]) -> Any:
    """How this kind of vocabulary spells bytes: a function of a piece."""
    kinds = set(_kinds(data.get("decoder"))) | set(_kinds(data.get("pre_tokenizer")))
    if "ByteLevel" in kinds:
        return _byte_level
    if "WordPiece" in kinds or data.get("model", {}).get("type") in ("WordPiece", "WordLevel"):
        raise TokenizerError("a WordPiece or WordLevel vocabulary does not tell the bytes between its pieces")
    if kinds & {"Metaspace", "ByteFallback", "Replace"} or data.get("model", {}).get("byte_fallback"):
        return _sentence_piece
    raise TokenizerError(f"unknown kind of vocabulary: decoder and pre-tokenizer are {sorted(kinds) or 'absent'}")


def _kinds(part: Any) -> Iterable[str]:
    if isinstance(part, dict):
        yield str(part.get("type"))
        for inner in (*part.get("decoders", []), *part.get("pretokenizers", [])):
            yield from _kinds(inner)


def _byte_level(piece: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in piece)
    except KeyError:  # a piece outside the byte alphabet was added as text
        return piece.encode()


def _sentence_piece(piece: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte.group(1), 16)]) if byte else piece.replace("▁", " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's alphabet: printable Latin-1 stands for itself, the other bytes follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()
