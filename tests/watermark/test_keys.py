"""Keys are derived as RFC 5869 says, read from files and variables, and never shown."""

import json
import stat
from pathlib import Path

import pytest

from watermark import Key, KeyRing, KeyRingError, UnknownKey
from watermark.keys import hkdf_sha256

SECRET = "00112233445566778899aabbccddeeff"
OTHER = "ffeeddccbbaa99887766554433221100"


@pytest.mark.parametrize(
    ("secret", "salt", "info", "length", "expected"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            82,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8"
            "367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_gives_the_test_vectors_of_rfc_5869(
    secret: bytes, salt: bytes, info: bytes, length: int, expected: str
) -> None:
    """Appendix A, cases 1 to 3."""
    assert hkdf_sha256(secret, salt=salt, info=info, length=length).hex() == expected


def words_of(key: Key) -> tuple[int, ...]:
    return tuple(int(word) for word in key.words)


def test_each_tenant_and_id_has_a_key_of_its_own() -> None:
    """No tenant, the empty name and names that run together are all different."""
    secret = bytes.fromhex(SECRET)
    pairs = [("a", None), ("a", ""), ("a", "b"), ("ab", None), ("ab", ""), ("", "ab"), ("a", "bc"), ("ab", "c")]
    assert len({words_of(Key.derive(secret, id=key_id, tenant=tenant)) for key_id, tenant in pairs}) == len(pairs)


def test_a_key_is_the_same_in_every_process() -> None:
    """A change here would orphan every text marked so far."""
    key = KeyRing({"k": bytes.fromhex(SECRET)}).key("k", "tenant")
    assert [f"{word:016x}" for word in key.words] == ["e792f6d3bf0a41b5", "b657b4b0ced7d6ca"]


def test_printing_a_key_or_a_ring_shows_names_only() -> None:
    """Neither the secret nor what is derived from it."""
    ring = KeyRing.from_environment({"FORMWORK_WATERMARK_KEYS": f"new:{SECRET},old:{OTHER}"})
    assert ring is not None
    shown = f"{ring!r} {ring!s} {ring.key()!r} {ring.key()}"
    assert "new" in shown
    assert "old" in shown
    for secret in (SECRET, OTHER, str(int(ring.key().words[0])), f"{int(ring.key().words[0]):x}"):
        assert secret not in shown


def test_the_active_key_comes_first_and_all_are_detected() -> None:
    """Rotation: the old key stays in the ring."""
    ring = KeyRing({"old": bytes(16), "new": bytes(range(16))}, active="new")
    assert ring.key().id == "new"
    assert [key.id for key in ring.keys("tenant")] == ["new", "old"]
    assert ring.ids == ("old", "new")


def test_an_unknown_key_is_named_with_those_that_exist() -> None:
    """The message helps without showing secrets."""
    with pytest.raises(UnknownKey, match=r"'missing'; known: 'k'"):
        KeyRing({"k": bytes(16)}).key("missing")


@pytest.mark.parametrize("suffix", [".toml", ".json", ""])
def test_a_ring_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    """TOML, JSON, and TOML where nothing is said."""
    table = {"active": "b", "keys": {"a": SECRET, "b": OTHER}}
    toml = f'active = "b"\n[keys]\na = "{SECRET}"\nb = "{OTHER}"\n'
    place = tmp_path / f"keys{suffix}"
    place.write_text(json.dumps(table) if suffix == ".json" else toml)
    ring = KeyRing.from_file(place)
    assert ring.active == "b"
    assert words_of(ring.key("a")) == words_of(KeyRing({"a": bytes.fromhex(SECRET)}).key("a"))


def test_a_created_file_is_readable_by_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    """Two rings made so differ; the second attempt on one file fails."""
    one, two = (KeyRing.create_file(tmp_path / name) for name in ("one.toml", "two.toml"))
    assert stat.S_IMODE((tmp_path / "one.toml").stat().st_mode) == 0o600
    assert words_of(one.key()) != words_of(two.key())
    assert words_of(KeyRing.from_file(tmp_path / "one.toml").key()) == words_of(one.key())
    with pytest.raises(KeyRingError, match="cannot create"):
        KeyRing.create_file(tmp_path / "one.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f'[keys]\na = "{SECRET}"\n[keys]', "not valid TOML"),
        (f'[keys]\na = "{SECRET[:8]}"', "'a' has 4 bytes"),
        (f'[keys]\na = "{SECRET}x"', "'a' is not hexadecimal"),
        ("[keys]\na = 12", "must be a string"),
        ("keys = 3", "must be a table"),
        ("[keys]", "empty"),
        (f'active = "b"\n[keys]\na = "{SECRET}"', "'b' is not in the ring"),
        (f'[keys]\na = "{SECRET}"\n[other]', "unknown entry 'other'"),
        (f'[keys]\n"" = "{SECRET}"', "printable"),
    ],
)
def test_a_bad_file_is_refused_without_repeating_a_secret(tmp_path: Path, text: str, complaint: str) -> None:
    """The message says where and what, never the value."""
    place = tmp_path / "keys.toml"
    place.write_text(text)
    with pytest.raises(KeyRingError, match=complaint) as caught:
        KeyRing.from_file(place)
    assert SECRET[:8] not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_json_file_that_holds_no_table_is_refused(tmp_path: Path) -> None:
    """A list of keys has no ids."""
    place = tmp_path / "keys.json"
    place.write_text("[]")
    with pytest.raises(KeyRingError, match="must hold a table"):
        KeyRing.from_file(place)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(KeyRingError, match=r"nowhere\.toml: FileNotFoundError"):
        KeyRing.from_file(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [(SECRET, "entry 1 is not"), (f"a:{SECRET},a:{OTHER}", "twice"), ("a:xyz", "not hexadecimal")],
)
def test_a_bad_variable_is_refused_without_repeating_it(value: str, complaint: str) -> None:
    """A bare secret is not taken for an id and quoted."""
    with pytest.raises(KeyRingError, match=complaint) as caught:
        KeyRing.from_environment({"FORMWORK_WATERMARK_KEYS": value})
    assert SECRET not in str(caught.value)


def test_without_the_variable_there_is_no_ring() -> None:
    """Unset and empty are the same."""
    assert KeyRing.from_environment({}) is None
    assert KeyRing.from_environment({"FORMWORK_WATERMARK_KEYS": " "}) is None


def test_a_generated_ring_is_new_each_time() -> None:
    """For a server without configuration."""
    assert words_of(KeyRing.generated().key()) != words_of(KeyRing.generated().key())
