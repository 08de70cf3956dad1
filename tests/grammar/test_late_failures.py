"""A constraint is refused when it is compiled, or never: nothing is raised while a text is generated."""

from typing import Any

import numpy as np
import pytest

from grammar import Vocabulary, compile_json_schema

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256])


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Byte by byte to the end; each mask is filled, and says what `advance` says."""
    matcher = compile_json_schema(schema, BYTES).matcher()
    row = np.zeros(BYTES.words, np.int32)
    for byte in text.encode():
        matcher.fill_mask(row)
        legal = bool(row[byte >> 5] >> (byte & 31) & 1)
        assert matcher.advance(byte) is legal
        if not legal:
            return False
    matcher.fill_mask(row)
    return matcher.is_accepting


TOLD_APART = {"anyOf": [{"maxLength": 5000, "pattern": "^b"}, {"maxLength": 9000, "pattern": "^a"}]}


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ('{"k":"b"}', True),
        ('{"k":"a"}', True),
        ('{"k":"c"}', False),
        ('{"k":"b' + 4999 * "x" + '"}', True),
        ('{"k":"b' + 5000 * "x" + '"}', False),
    ],
)
def test_long_lengths_in_alternatives_are_counted(text: str, accepted: bool) -> None:
    """Within the least of the long lengths every alternative is offered, and nothing else."""
    assert accepts({"properties": {"k": TOLD_APART}}, text) is accepted


@pytest.mark.parametrize(
    ("schema", "legal", "illegal"),
    [
        ({"anyOf": [{"minLength": 2500, "pattern": "x$"}, {"enum": ["q"]}]}, '"q"', '"p"'),
        ({"anyOf": [{"minLength": 2500, "pattern": "x$"}, {"minLength": 2600}]}, f'"{2500 * "x"}"', f'"{2499 * "x"}"'),
        ({"type": "object", "propertyNames": {"maxLength": 5000, "pattern": "^x"}}, '{"x":1}', '{"y":1}'),
        (
            {
                "anyOf": [
                    {"properties": {"a": {"maxLength": 32767}, "b": {"type": "number"}}},
                    {"properties": {"a": {"pattern": "^x"}}},
                ]
            },
            '{"a":"x","b":"y"}',
            '{"a":"z","b":"y"}',
        ),
    ],
)
def test_long_lengths_in_combinations_keep_what_is_legal(schema: dict[str, Any], legal: str, illegal: str) -> None:
    """Listed strings, the shortest texts that there are, and keys."""
    assert accepts(schema, legal)
    assert not accepts(schema, illegal)
