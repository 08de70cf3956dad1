"""Names of constraints: each key's own, kept over restarts where a folder is given, nothing trusted that is damaged."""

from __future__ import annotations

import errno
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from service import constraints
from service.errors import InvalidBody, StorageUnavailable
from service.names import NameFolder, Names
from tests.service.houses import BYTES, EOS, served

AGE = constraints.json_schema({"type": "integer", "x-refusal": True}, None, "response_format.json_schema.schema")
WORD = constraints.regex("[a-z]+", "response_format.value")


def test_names_outlive_the_process(tmp_path: Path) -> None:
    """All of a constraint comes back, under the key that named it and no other."""
    names = Names(NameFolder(tmp_path / "kept", 10_000))
    names.keep("ann", "age", AGE)
    names.keep("ann", "word", AGE)
    names.keep("ann", "word", WORD)
    names.keep("bob", "age", WORD)
    names.drop("bob", "age")
    again = Names(NameFolder(tmp_path / "kept", 10_000))
    assert {name: astuple(each) for name, each in again.of("ann").items()} == {
        "age": astuple(AGE),
        "word": astuple(WORD),
    }
    assert not again.of("bob")
    with pytest.raises(InvalidBody, match="known: none"):
        again.find("bob", "age")


def test_what_is_damaged_or_moved_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under another key's file name a constraint is not that key's."""
    shelf = NameFolder(tmp_path, 10_000)
    names = Names(shelf)
    names.keep("ann", "age", AGE)
    (path,) = tmp_path.glob("*.named")
    data = path.read_bytes()
    names.keep("bob", "age", WORD)
    (other,) = set(tmp_path.glob("*.named")) - {path}
    other.write_bytes(data)
    path.write_bytes(data[:-1] + b"x")
    again = Names(shelf)
    assert not again.of("ann")
    assert not again.of("bob")
    assert caplog.text.count("is no named constraint") == 2


def test_the_folder_is_bounded(tmp_path: Path) -> None:
    """A name that does not fit is refused, and nothing is left of it."""
    names = Names(NameFolder(tmp_path, 400))
    names.keep("ann", "word", WORD)
    large = constraints.regex("a" * 400, "response_format.value")
    with pytest.raises(InvalidBody, match="delete one"):
        names.keep("ann", "large", large)
    with pytest.raises(InvalidBody, match="delete one"):
        names.keep("ann", "word", large)
    assert names.find("ann", "word") == WORD
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_takes_nothing_costs_the_change_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory says what the disk says: neither a name that the next start has not, nor one that comes back then."""
    names = Names(NameFolder(tmp_path / "kept", 10_000))
    names.keep("ann", "age", AGE)

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("service.names.os.fsync", full)
        patch.setattr(Path, "unlink", full)
        for change in (lambda: names.keep("ann", "word", WORD), lambda: names.drop("ann", "age")):
            with pytest.raises(StorageUnavailable, match="No space left"):
                change()
    assert list(names.of("ann")) == ["age"]
    assert names.drop("ann", "age")


def test_one_keys_names_are_bounded_in_number_and_in_size() -> None:
    names = Names()
    for index in range(16):
        names.keep("ann", f"large{index}", constraints.regex("a" * 1_000_000, "x"))
    with pytest.raises(InvalidBody, match="in all"):
        names.keep("ann", "one more", constraints.regex("a" * 1_000_000, "x"))
    names.keep("ann", "large3", WORD)  # in place of a large one
    for index in range(1000 - 16):
        names.keep("ann", f"small{index}", WORD)
    with pytest.raises(InvalidBody, match="delete one"):
        names.keep("ann", "one more", WORD)
    names.keep("bob", "his own", WORD)


@pytest.mark.anyio
async def test_a_name_can_be_asked_for_after_a_restart(tmp_path: Path) -> None:
    """Through the routes: named by one server, used under the next."""
    folder = str(tmp_path / "kept")
    body = {"name": "word", "response_format": {"type": "regex", "value": "[a-z]+"}}
    async with served(tmp_path, [], grammar_folder=folder) as (client, _):
        made = await client.post("/v1/grammars", json=body)
    asked = {"messages": [{"role": "user", "content": "x"}], "formwork": {"grammar": "word"}}
    async with served(tmp_path, [BYTES.tokens("abc"), [EOS]], grammar_folder=folder) as (client, engine):
        answer = await client.post("/v1/chat/completions", json=asked)
        known = await client.get("/v1/grammars/word")
        gone = await client.delete("/v1/grammars/word")
        unknown = [(await each("/v1/grammars/word")).status_code for each in (client.get, client.delete)]
    async with served(tmp_path, [], grammar_folder=folder) as (client, _):
        missing = await client.post("/v1/chat/completions", json=asked)
    assert (made.status_code, answer.status_code, gone.status_code, missing.status_code) == (200, 200, 200, 400)
    assert (known.status_code, unknown) == (200, [404, 404])
    assert engine.requests[0][1] is not None


@pytest.mark.anyio
async def test_names_may_change_while_they_are_told_and_telling_them_holds_a_place(tmp_path: Path) -> None:
    async with served(tmp_path, [], max_concurrent_requests=1) as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        for name in ("age", "word"):
            house.names.keep("", name, AGE)
        compile_now, refused = house.compiler.compile, []

        async def slowly(constraint: Any, tenant: str) -> Any:
            house.names.keep("", f"new{len(house.names.of(''))}", WORD)
            refused.append((await client.get("/v1/grammars")).status_code)
            return await compile_now(constraint, tenant)

        house.compiler.compile = slowly
        told = await client.get("/v1/grammars")
        house.compiler.compile = compile_now
        after = await client.get("/v1/grammars")
    assert [each["name"] for each in told.json()["data"]] == ["age", "word"]
    assert refused == [503, 503]
    assert len(after.json()["data"]) == 4
