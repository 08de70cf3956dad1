"""Values of a JSON answer and how sure the model was of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.messages import Token
from service.fields import FieldReader, FieldValue
from service.text import Shown
from tests.service.houses import saying, served
from tests.service.test_chat_route import events

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The oracle: scalars and empty containers, in document order."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, path + "/" + key.replace("~", "~0").replace("/", "~1"))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}/{index}")
    else:
        yield path, value


def read(data: bytes, cuts: list[int]) -> list[FieldValue]:
    """The fields of a text whose tokens have these lengths, each of log-prob -1 and mass .5."""
    reader, found, at = FieldReader(), [], 0
    for size in [*cuts, len(data)]:
        piece = data[at : at + size]
        at += size
        found += reader.feed([Shown(Token(0, -1.0, -0.5, 0.5), piece)])
    return [*found, *reader.end()]


@given(JSON, st.lists(st.integers(1, 9), max_size=30), st.sampled_from([None, 1]), st.booleans())
def test_every_value_is_told_once_with_its_place(value: Any, cuts: list[int], indent: int | None, escape: bool) -> None:
    data = json.dumps(value, indent=indent, ensure_ascii=escape).encode("utf-8", "surrogatepass")
    found = read(data, cuts)
    expected = list(leaves(value))
    assert [each.path for each in found] == [path for path, _ in expected]
    assert json.dumps([each.value for each in found]) == json.dumps([item for _, item in expected])


@given(st.integers(1, 20))
def test_a_value_weighs_what_its_tokens_weigh(size: int) -> None:
    data = b'{"a": "0123456789", "b": 5}'
    first, second = read(data, [size] * (len(data) // size))
    start, end = data.index(b'"0'), data.index(b'9"') + 1
    assert first.tokens == end // size - start // size + 1
    assert first.logprob == -float(first.tokens)
    assert math.isclose(first.constrained_logprob, -0.5 * first.tokens)
    assert second.tokens == 1
    assert second.legal_mass == 0.5


@pytest.mark.parametrize("cut", ['{"a": 1, "b": "x', '{"a": 1, "b": {', '{"a": 1, "b'])
def test_what_was_cut_is_no_value(cut: str) -> None:
    assert [each.path for each in read(cut.encode(), [])] == ["/a"]


ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "x"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object"}}},
}
PERSON = '{"name": "Zoë", "tags": ["a", []], "age": 34}'
FIELDS = [("/name", "Zoë"), ("/tags/0", "a"), ("/tags/1", []), ("/age", 34)]


@pytest.mark.anyio
async def test_an_answer_tells_its_fields(tmp_path: Path) -> None:
    async with served(tmp_path, saying(PERSON)) as (client, _):
        answer = (await client.post("/v1/chat/completions", json=ASK)).json()
        free = (await client.post("/v1/chat/completions", json={"messages": ASK["messages"]})).json()
    fields = answer["formwork"]["choices"][0]["fields"]
    assert [(each["path"], each["value"]) for each in fields] == FIELDS
    assert fields[0]["tokens"] == len('"Zoë"'.encode())
    assert fields[0]["logprob"] == -0.5 * fields[0]["tokens"]
    assert "fields" not in free["formwork"]["choices"][0]


@pytest.mark.anyio
@pytest.mark.parametrize("wanted", [True, False])
async def test_a_stream_tells_fields_as_they_complete_or_at_the_end(tmp_path: Path, wanted: bool) -> None:
    body = {**ASK, "stream": True, "formwork": {"events": "fields"} if wanted else {}}
    async with served(tmp_path, saying(PERSON, size=1)) as (client, _):
        response = await client.post("/v1/chat/completions", json=body)
    *chunks, _ = events(response.text)
    told = [chunk["formwork"]["fields"] for chunk in chunks if "fields" in (chunk.get("formwork") or {})]
    assert [(each["path"], each["value"]) for some in told for each in some] == FIELDS
    assert len(told) == (5 if wanted else 1)  # one a value, and the last chunk's
