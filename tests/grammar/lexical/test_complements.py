"""What a schema excludes stays excluded in every spelling: complements are taken where membership was decided."""

import pytest

from grammar import Vocabulary, compile_json_schema

BYTES = Vocabulary([bytes([byte]) for byte in range(256)] + [b""], [256])


def accepts(schema: dict[str, object], text: str, formats: str = "assert") -> bool:
    """Byte by byte to the end."""
    matcher = compile_json_schema(schema, BYTES, formats=formats).matcher()
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


def test_the_negation_of_a_narrowed_format_keeps_to_what_is_decided() -> None:
    """Texts that we cannot tell to be host names or not, those with A-labels, are on neither side."""
    assert accepts({"not": {"format": "hostname"}}, '"a..b"', "narrow")
    assert not accepts({"not": {"format": "hostname"}}, '"a"', "narrow")
    assert not accepts({"not": {"format": "hostname"}}, '"xn--a"', "narrow")


def test_the_negation_of_a_format_that_is_hardly_decided() -> None:
    """What surely is no regular expression; those that we do not offer must not come through."""
    assert accepts({"not": {"format": "regex"}}, '"*a"')
    assert not accepts({"not": {"format": "regex"}}, '"a"')
    assert not accepts({"not": {"format": "regex"}}, '"(((a)))"')
