"""The bundled tokenizer: lossless over all bytes, and a word is the same tokens wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from models.training.batches import encoded
from models.training.model import FOLDER, load_tokenizer
from models.training.tokenizer import END, PADDING, ROLES, VOCABULARY_SIZE, train_tokenizer

TOKENIZER = load_tokenizer()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_decoding_gives_back_any_text(text: str) -> None:
    if any(special in text for special in (PADDING, END, *ROLES)):
        return
    assert TOKENIZER.decode(encoded(TOKENIZER, text)) == text


def test_every_byte_has_a_token_of_its_own() -> None:
    for byte in range(256):
        text = chr(byte) if byte < 128 else bytes([0xC2 + byte // 192, 0x80 + byte % 64]).decode()
        assert TOKENIZER.decode(encoded(TOKENIZER, text)) == text
    alphabet = {token for token in TOKENIZER.get_vocab() if len(token) == 1}
    assert len(alphabet) == 256


@pytest.mark.parametrize("word", ["Maria", "Silva", "Qorvex", "João", "plumber", "2031", "Zürich"])
def test_a_word_is_the_same_tokens_in_prose_and_in_json(word: str) -> None:
    alone = encoded(TOKENIZER, word)
    for text in (f"I met {word} today.", f'{{"name": "{word}", "age": 3}}', f"({word})", f"\n{word}\n"):
        tokens = encoded(TOKENIZER, text)
        assert any(tokens[start : start + len(alone)] == alone for start in range(len(tokens)))


def test_digits_are_single_tokens() -> None:
    assert len(encoded(TOKENIZER, "1234567890")) == 10


def test_special_tokens_are_recognised_in_a_rendered_prompt() -> None:
    assert encoded(TOKENIZER, END) == [TOKENIZER.eos_token_id]
    assert TOKENIZER.pad_token == PADDING
    assert len(TOKENIZER) == VOCABULARY_SIZE


def test_training_a_tokenizer_anew_keeps_the_rules() -> None:
    fresh: PreTrainedTokenizerFast = train_tokenizer(["some words, some more words"] * 5, "template")
    assert encoded(fresh, "words")[0] == encoded(fresh, '"words"')[1]
    assert fresh.decode(encoded(fresh, "ŝ €")) == "ŝ €"


def test_the_folder_holds_what_the_service_reads() -> None:
    read = ("config", "generation_config", "tokenizer", "tokenizer_config")
    assert all((FOLDER / f"{name}.json").is_file() for name in read)
    assert (FOLDER / "chat_template.jinja").is_file()
