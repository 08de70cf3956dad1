"""Tokens in front of which the tokenizer cuts, whatever stands before them.

What it is for: the check of spellings (`canonical`) reads a few tokens again for each choice; where a cut is certain,
what stands before it need not be read. What may not enter: models, masks.

The idea: before byte-pair encoding a text is cut into words, and every cutter in use begins one at a blank in front of
a letter. That is not taken on trust: the cutter itself is asked, with each ASCII letter behind the blank and before it
every ASCII character and some of each kind of others. If it ever does otherwise, or may change the text first, no token
is named, and everything is read as before.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from typing import Any

_HARMLESS = frozenset({"NoneType", "NFC"})  # normalizers: a blank and an ASCII letter join with nothing before them
_BEFORE = [*map(chr, range(128)), *"é漢кع२½—“’…€ \u200b\u0301\u3000\u2028😀"]
_BLANKS = " \t\n\r\u3000"


def word_starts(backend: Any, tokens: Sequence[bytes]) -> frozenset[int]:
    """Ids of the tokens that always begin a word: a blank and an ASCII letter first. `backend`: of `tokenizers`."""
    if type(backend.normalizer).__name__ not in _HARMLESS or backend.pre_tokenizer is None:
        return frozenset()
    if any(" " in added.content for added in backend.get_added_tokens_decoder().values()):
        return frozenset()  # these are looked for before words are
    letters = [letter for letter in string.ascii_letters if _cuts(backend.pre_tokenizer, letter)]
    firsts = tuple(f" {letter}".encode() for letter in letters)
    return frozenset(token for token, spelled in enumerate(tokens) if spelled.startswith(firsts))


def _cuts(cutter: Any, letter: str) -> bool:
    before = itertools.chain(_BEFORE, map("".join, itertools.product(_BLANKS, repeat=2)), ("\r\n", "don't", "a1", "'s"))
    return all(
        len(text) in {start for _, (start, _) in cutter.pre_tokenize_str(f"{text} {letter}s")} for text in before
    )
