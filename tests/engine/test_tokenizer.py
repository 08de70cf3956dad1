"""Exact bytes of every token, for byte-level and SentencePiece-style vocabularies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from engine.tokenizer import Detokenizer, Tokenizer, TokenizerError

TEXT = ['{"name": "Jo", "age": 4}', "hello wörld 日本 🙂", "a  b\n\tc"] * 20


def saved(folder: Path, backend: Any, **config: Any) -> Tokenizer:
    """A tokenizer written to a folder and loaded from it."""
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", **config}))
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    backend: Any = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|start|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    return saved(tmp_path_factory.mktemp("byte-level"), backend, bos_token={"content": "<|start|>"})


@pytest.fixture(scope="module")
def sentence_piece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    pieces = ["<unk>", "<|end|>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "h", "i", "▁h", "▁hi"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend: Any = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("▁", "h"), ("▁h", "i")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    backend.add_special_tokens(["<unk>", "<|end|>"])
    return saved(tmp_path_factory.mktemp("sentence-piece"), backend)


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_the_tokens_of_a_text_spell_it(byte_level: Tokenizer, sentence_piece: Tokenizer, text: str) -> None:
    text = text.replace("▁", "")  # SentencePiece cannot tell it from a blank
    for tokenizer in (byte_level, sentence_piece):
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes(index) for index in ids).decode() == text


def test_a_special_token_in_users_text_is_plain_text(byte_level: Tokenizer) -> None:
    assert byte_level.encode("<|end|>", special=True) == list(byte_level.eos_token_ids)
    plain = byte_level.encode("<|end|>")
    assert not set(plain) & byte_level.special_ids
    assert byte_level.decode(plain) == "<|end|>"


def test_special_and_padding_ids_spell_nothing(byte_level: Tokenizer) -> None:
    padded = byte_level.padded_bytes(byte_level.size + 5)
    assert len(padded) == byte_level.size + 5
    assert padded[-5:] == [b""] * 5
    assert all(padded[index] == b"" for index in byte_level.special_ids)
    assert (byte_level.bos_token, byte_level.eos_token) == ("<|start|>", "<|end|>")


def test_every_byte_can_be_spelled(byte_level: Tokenizer, sentence_piece: Tokenizer) -> None:
    for tokenizer in (byte_level, sentence_piece):
        assert {bytes([byte]) for byte in range(256)} <= set(tokenizer.vocabulary_bytes)


def test_logits_narrower_than_the_vocabulary_are_refused(byte_level: Tokenizer) -> None:
    with pytest.raises(TokenizerError):
        byte_level.padded_bytes(byte_level.size - 1)


def test_a_word_piece_vocabulary_is_refused(tmp_path: Path) -> None:
    backend: Any = tokenizers.Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(TokenizerError):
        _ = saved(tmp_path, backend).vocabulary_bytes


def test_a_missing_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


@given(st.text(max_size=20), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_stream_shows_whole_characters_only(text: str, size: int) -> None:
    data, stream, shown = text.encode(), Detokenizer(), ""
    for start in range(0, len(data), size):
        shown += stream.feed(data[start : start + size])
        assert text.startswith(shown)
    assert shown + stream.finish() == text


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("special", [False, True])
def test_a_long_text_is_cut_like_its_parts(byte_level: Tokenizer, *, special: bool, add_bos: bool) -> None:
    """It goes another way, on which other threads run meanwhile."""
    part = "wörld <|end|> 日本\n"
    short, long = (byte_level.encode(part * count, special=special, add_bos=add_bos) for count in (100, 1000))
    assert len(part) * 100 < 2000 < len(part) * 1000
    each = byte_level.encode(part, special=special)
    assert short[-100 * len(each) :] == each * 100
    assert long == short[: len(short) - 100 * len(each)] + each * 1000
