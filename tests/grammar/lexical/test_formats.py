"""Formats against the official suite, where nothing invalid may pass, and against independent readings."""

import calendar
import ipaddress
import json
import lzma
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.lexical import FORMATS, INEXACT_FORMATS, compile_format
from grammar.lexical.formats import decided_texts

SUITE = Path(__file__).parents[1] / "data" / "json-schema-test-suite.json.xz"


def groups() -> list[tuple[str, int, str, list[dict[str, object]]]]:
    """(draft and description, draft number, format, tests) of every group of optional/format."""
    suite = json.loads(lzma.decompress(SUITE.read_bytes()))
    found = []
    for draft, number in [("draft4", 4), ("draft7", 7), ("draft2020-12", 2020)]:
        for name, file_groups in suite[draft].items():
            for group in file_groups if "optional/format/" in name else []:
                title = f"{draft}: {group['description']}"
                found.append((title, number, group["schema"].get("format", ""), group["tests"]))
    return found


GROUPS = groups()


def test_the_suite_is_there() -> None:
    """Otherwise the next test would test nothing."""
    assert len(GROUPS) > 50


@pytest.mark.parametrize(("title", "draft", "name", "tests"), GROUPS, ids=[group[0] for group in GROUPS])
def test_the_official_suite(title: str, draft: int, name: str, tests: list[dict[str, object]]) -> None:
    """Nothing invalid is accepted; of the valid, only internationalised names are missing."""
    if name not in FORMATS:
        pytest.skip("an annotation")
    dfa = compile_format(name, draft)
    for test in tests:
        if isinstance(test["data"], str):
            accepted = dfa.accepts(test["data"].encode())
            assert accepted <= bool(test["valid"]), test
            wide = name == "idn-hostname" or ("A-label" in title and test["data"].startswith("xn--"))
            assert accepted == test["valid"] or wide, test


@pytest.mark.parametrize("name", INEXACT_FORMATS)
def test_what_is_offered_of_a_narrowed_format_is_decided(name: str) -> None:
    """And so is much that is outside of it."""
    decided = decided_texts(name, 2020)
    assert decided.contains(compile_format(name))
    assert decided.accepts(b"* ")
    assert not compile_format(name).accepts(b"* ")


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
@settings(max_examples=300, deadline=None)
def test_dates_are_those_of_the_calendar(year: int, month: int, day: int) -> None:
    """The proleptic Gregorian one, leap years included."""
    real = 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year or 400, month)[1]
    assert compile_format("date").accepts(f"{year:04}-{month:02}-{day:02}".encode()) == real


@given(st.ip_addresses(v=6), st.text("0123456789abcdef:.", max_size=12))
@settings(max_examples=200, deadline=None)
def test_ipv6_agrees_with_the_standard_library(address: ipaddress.IPv6Address, text: str) -> None:
    """Compressed, exploded and random texts."""
    dfa = compile_format("ipv6")
    assert dfa.accepts(str(address).encode())
    assert dfa.accepts(address.exploded.upper().encode())
    try:
        ipaddress.IPv6Address(text)
        valid = True
    except ValueError:
        valid = False
    assert dfa.accepts(text.encode()) == valid


@given(st.uuids(), st.ip_addresses(v=4))
@settings(max_examples=50, deadline=None)
def test_uuids_and_ipv4_addresses(identifier: uuid.UUID, address: ipaddress.IPv4Address) -> None:
    """Any of them."""
    assert compile_format("uuid").accepts(str(identifier).encode())
    assert compile_format("ipv4").accepts(str(address).encode())


@pytest.mark.parametrize("length", [1, 2, 62, 63, 64])
def test_labels_have_at_most_63_characters(length: int) -> None:
    """And a single one is a name."""
    assert compile_format("hostname").accepts(b"a" * length) == (length <= 63)


def test_names_have_at_most_253_characters() -> None:
    """Exactly for labels of 63; a name of many short labels ends a little earlier."""
    labels = ".".join(["a" * 63] * 3)
    assert compile_format("hostname").accepts(f"{labels}.{'a' * 61}".encode())
    assert not compile_format("hostname").accepts(f"{labels}.{'a' * 62}".encode())
    assert not compile_format("hostname").accepts(".".join("a" * 128).encode())
    assert compile_format("hostname").accepts(b"bucket-of-things.s3.eu-west-1.amazonaws.com")


def test_a_local_part_has_at_most_64_octets() -> None:
    """RFC 5321 section 4.5.3.1.1."""
    email = compile_format("email")
    assert email.accepts(b"a" * 64 + b"@b.c")
    assert not email.accepts(b"a" * 65 + b"@b.c")
    assert not email.accepts(b'"' + b"a" * 63 + b'"@b.c')


def test_the_inexact_formats_are_known_formats() -> None:
    """Each with what is left out."""
    assert set(INEXACT_FORMATS) <= set(FORMATS)
