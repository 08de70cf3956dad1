"""What a schema excludes stays excluded in every spelling: complements are taken where membership was decided."""

import pytest

from grammar import Vocabulary, compile_json_schema

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256])


def accepts(schema: dict[str, object], text: str) -> bool:
    """Byte by byte to the end."""
    matcher = compile_json_schema(schema, BYTES).matcher()
    return all(matcher.advance(byte) for byte in text.encode()) and matcher.is_accepting


@pytest.mark.parametrize(
    ("schema", "refused", "accepted"),
    [
        ({"type": "number", "not": {"type": "integer"}}, "-67935.25e07", "1.5e-7"),
        ({"type": "number", "not": {"multipleOf": 7}}, "70000000.0e5", "15.0"),
        ({"type": "number", "not": {"enum": [3]}}, "30000000.0e-7", "3.5"),
        ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}, "12345678.25e2", "7.5"),
    ],
)
def test_an_excluded_number_is_excluded_in_long_spellings_too(
    schema: dict[str, object], refused: str, accepted: str
) -> None:
    """The exponent forms after long mantissas are left out, not taken for other values."""
    assert not accepts(schema, refused)
    assert accepts(schema, accepted)


def test_texts_that_an_approximated_format_does_not_decide_are_on_neither_side() -> None:
    """Its missing words would come through its negation."""
    name: dict[str, object] = {"type": "string", "format": "hostname"}
    negated: dict[str, object] = {"type": "string", "not": {"format": "hostname"}}
    for text, is_name in (('"a"', True), ('"a b"', False)):
        assert accepts(name, text) is is_name
        assert accepts(negated, text) is not is_name
    assert not accepts(name, '"xn--a"')
    assert not accepts(negated, '"xn--a"')
