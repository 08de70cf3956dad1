"""The real vocabulary, loaded once for all tests of this room."""

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pytest

from grammar import Vocabulary

END = 2  # "</s>", which this file does not list


@dataclass(frozen=True, slots=True)
class RealVocabulary:
    """The 131,072 tokens of Mistral's tokenizer (tekken_240911) and the text encoder that belongs to them."""

    vocabulary: Vocabulary
    encoding: Any
    special: int
    end: int

    def encode(self, text: str) -> list[int]:
        """Token ids; nothing in the text is read as a special token."""
        return [token + self.special for token in self.encoding.encode(text, disallowed_special=())]


@pytest.fixture(scope="session")
def tekken() -> RealVocabulary:
    """Ids below `special` are control tokens and spell nothing."""
    tiktoken = pytest.importorskip("tiktoken")
    pytest.importorskip("mistral_common")
    raw = json.loads(files("mistral_common").joinpath("data", "tekken_240911.json").read_text(encoding="utf-8"))
    special = int(raw["config"]["default_num_special_tokens"])
    wanted = int(raw["config"]["default_vocab_size"]) - special
    ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) for entry in raw["vocab"][:wanted]}
    tokens = [b""] * special + sorted(ranks, key=lambda token: ranks[token])
    pattern = raw["config"]["pattern"]
    encoding = tiktoken.Encoding(name="tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return RealVocabulary(Vocabulary(tokens, [END]), encoding, special, END)
