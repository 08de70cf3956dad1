"""What a stranger's bytes may do to what reads them: refuse by a documented error, or be read. Nothing else.

What it is for: one function a reader, each given raw bytes; it returns if all is well. `benchmarks.hostile_fuzz` makes
the bytes up, `tests/faults/test_corpora.py` replays those that are kept in `benchmarks/corpora/`.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from engine.faults import FaultSyntaxError, parse_faults
from engine.wire import client_side, engine_side
from grammar import GrammarError, Vocabulary, compile_ebnf, compile_json_schema, compile_regex, compile_structural_tags
from schemas.chat import ChatRequest
from service.body import parse, strict_json
from service.errors import ServiceError

_SECRET = "s" * 32
_STEPS = 24
_MOST_TO_FINISH = 2_000  # a longer way costs minutes and shows nothing more


@functools.cache
def vocabulary() -> Vocabulary:
    """Bytes, a few longer tokens, an end."""
    return Vocabulary([bytes([byte]) for byte in range(256)] + [b'":', b"ab", b""], [258])


def regex(raw: bytes) -> None:
    """A regular expression."""
    text = raw.decode("utf-8", "replace").replace("\ufffd", "\ud800")  # a half character, which JSON may spell
    with contextlib.suppress(GrammarError):
        _walk(compile_regex(text, vocabulary()), raw)


def schema(raw: bytes) -> None:
    """A JSON Schema as a request brings it."""
    with contextlib.suppress(ServiceError, GrammarError):
        made = strict_json(raw)
        if isinstance(made, dict | bool):
            before = json.dumps(made)
            _walk(compile_json_schema(made, vocabulary(), source="a quotation"), raw)
            assert json.dumps(made) == before, "the schema was changed"


def ebnf(raw: bytes) -> None:
    """A grammar in Lark's or GBNF's spelling."""
    with contextlib.suppress(GrammarError):
        _walk(compile_ebnf(raw.decode("utf-8", "replace"), vocabulary()), raw)


def tags(raw: bytes) -> None:
    """A structural tag, in JSON."""
    with contextlib.suppress(GrammarError):
        _walk(compile_structural_tags(raw.decode("utf-8", "replace"), vocabulary()), raw)


def wire(raw: bytes) -> None:
    """A frame of the socket between the processes: a message of ours, or dropped."""
    for side in (engine_side(_SECRET), client_side(_SECRET)):
        message: Any = side.message([_SECRET.encode(), raw])
        assert message is None or isinstance(message, msgspec.Struct)
        if message is not None:  # what was read can be said again, and means the same
            assert side.message(side.frames(message)) == message
        assert side.message([raw, raw]) is None


def body(raw: bytes) -> None:
    """A chat request's body."""
    with contextlib.suppress(ServiceError):
        parse(strict_json(raw), ChatRequest)


def faults(raw: bytes) -> None:
    """A line of fault points."""
    with contextlib.suppress(FaultSyntaxError):
        parse_faults(raw.decode("utf-8", "replace"))


READERS: dict[str, Callable[[bytes], None]] = {
    "schema": schema, "regex": regex, "ebnf": ebnf, "tags": tags, "wire": wire, "body": body, "faults": faults,
}  # fmt: skip


def _walk(grammar: Any, choices: bytes) -> None:
    """A few tokens: mask and advance agree, and there is always a way on."""
    matcher = grammar.matcher()
    row = np.zeros(vocabulary().words, np.int32)
    for choice in choices[:_STEPS]:
        if matcher.is_finished:
            return
        matcher.fill_mask(row)
        legal = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        assert len(legal), "no legal token"
        assert matcher.advance(choice) == (choice in legal), "mask and advance disagree"
        if choice not in legal:
            assert matcher.advance(int(legal[choice % len(legal)]))
    if not matcher.is_finished:  # else the last step took the end token
        _finish(matcher, row)


def _finish(matcher: Any, row: Any) -> None:
    """Every accepted text can be brought to an end in as many tokens as the matcher says."""
    left = matcher.tokens_to_finish
    if left > _MOST_TO_FINISH:
        return
    while not matcher.is_accepting:
        matcher.fill_mask(row, budget=left)
        legal = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        assert left > 0, "it takes longer than was said"
        assert len(legal), "no legal token within the budget"
        assert matcher.advance(int(legal[0]))
        left -= 1
