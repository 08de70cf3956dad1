"""The reference itself against the jsonschema library: what it calls complete is what validates, and prefixes agree."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.json_masks import Reference
from tests.oracles.validation import decode, is_valid
from tests.strategies import schemas

# Not all 256: the other letters and continuation bytes are like these.
BYTES = [*b'{}[]":, \n0129-.eabtrufalsn\\', 0xC3, 0xA9, 0x01, *b"/cd34567ABCDEF8", *range(0x80, 0xC0)]


@settings(max_examples=60, deadline=None)
@given(st.one_of(schemas.referenced(), schemas.recursive()), schemas.values())
def test_a_text_is_complete_exactly_when_its_value_validates(schema: Any, value: Any) -> None:
    """For every spelling; and each prefix of a complete text is viable."""
    reference = Reference(schema)
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        threads = reference.start
        for byte in text.encode():
            threads = reference.step(threads, byte)
        assert reference.accepting(threads) == is_valid(schema, decode(json.dumps(value)))


@settings(max_examples=15, deadline=None)
@given(schemas.referenced(1), st.randoms(use_true_random=False))
def test_a_viable_prefix_has_a_next_byte_until_it_is_complete(schema: Any, random: Any) -> None:
    """No dead ends along a random walk over bytes; complete texts validate."""
    reference = Reference(schema)
    threads, text = reference.start, b""
    for _ in range(20):
        following = [byte for byte in BYTES if reference.step(threads, byte)]
        assert following or reference.accepting(threads) or not text
        if reference.accepting(threads):
            assert is_valid(schema, decode(text))
        if not following:
            break
        byte = random.choice([b for b in following if chr(b) in '"}]' or random.random() < 0.3] or following)
        threads, text = reference.step(threads, byte), text + bytes([byte])


@pytest.mark.parametrize(
    ("schema", "viable", "dead"),
    [
        (
            {"type": "integer", "minimum": 3, "maximum": 17},
            ["1", "0.3e1", "17.0", "3e0", "30e-"],
            ["18", "2", "-", "19."],
        ),
        ({"const": 100}, ["1", "1e", "1e+2", "100.0", "0.1e", "10e1"], ["11", "-", "2", "100.01", "1e3"]),
        (
            {"type": "string", "maxLength": 1},
            ['"', '"\\', '"\\uD83D', '"\\ud83d\\ude0', '"é"'],
            ['"ab', '"\\uDE00', '"é\\'],
        ),
        ({"enum": ["é"]}, ['"\\u00e', '"\\u00E9"'], ['"\\ud8', '"\\"', '"\\u00f']),
        ({"type": "array", "maxItems": 1}, ["[\n\t\t]", "[ ]", "[1"], ["[  ", "[1,", "[\n\n", "[ \n", " ["]),
        ({"required": ["a"], "maxProperties": 1}, ['{"a', '{"\\u0061'], ['{"b', '{"a":1,']),
        (
            {"minProperties": 2, "propertyNames": {"enum": ["a", "b"]}},
            ['{"a":1,"b'],
            ['{"a":1}', '{"a":1,"a', '{"a":1,"b":1,'],
        ),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}, "minItems": 1, "type": "array"}}},
            [],
            ["["],
        ),
    ],
)
def test_prefixes_that_can_and_cannot_be_completed(schema: Any, viable: list[str], dead: list[str]) -> None:
    """Examples worked out by hand."""
    reference = Reference(schema)
    assert [text for text in viable if not reference.viable(text.encode())] == []
    assert [text for text in dead if reference.viable(text.encode())] == []
