"""service.adapters: names of LoRA adapters."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from engine.errors import InvalidRequest
from service.adapters import AdapterError, Shelf, named_folders, read, shelf_of
from service.errors import InvalidBody
from tests.engine.scripted import ScriptedEngine
from tests.service.houses import info, saying, served

USER = {"role": "user", "content": "Hello"}


def made(folder: Path, weights: bytes = b"w") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("setting", "folders"),
    [
        ("", {}),
        ("sql=/a/b", {"sql": "/a/b"}),
        ("sql=/a/b, org/chat ,x = y/z", {"sql": "/a/b", "org/chat": "org/chat", "x": "y/z"}),
    ],
)
def test_a_setting_is_a_list_of_names(setting: str, folders: dict[str, str]) -> None:
    """As vLLM's --lora-modules and TGI's LORA_ADAPTERS write it."""
    assert named_folders(setting) == folders


@pytest.mark.parametrize(
    ("setting", "says"), [("=x", "is not name=folder"), ("a=x,a=y", "named twice"), ("a=", "not name")]
)
def test_a_bad_setting_is_told(setting: str, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        named_folders(setting)


def test_other_content_is_another_version(tmp_path: Path) -> None:
    first = read(made(tmp_path / "a"))
    assert read(tmp_path / "a") == first
    assert read(made(tmp_path / "a", b"v")).version != first.version
    assert read(made(tmp_path / "b")).version == first.version


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json"):
        read(tmp_path)


def test_a_shelf_has_an_end(tmp_path: Path) -> None:
    """Names are replaced and dropped; one more than there is room for is refused."""
    adapter = read(made(tmp_path / "a"))
    shelf = Shelf(1)
    shelf.put("a", adapter)
    shelf.put("a", adapter)
    with pytest.raises(InvalidBody, match="1 adapters have names"):
        shelf.put("b", adapter)
    assert shelf.find("a") == adapter
    assert shelf.find("b") is shelf.find(None) is None
    assert shelf.drop("a")
    assert not shelf.drop("a")
    assert "a" not in shelf


def test_a_server_starts_with_those_it_was_told(tmp_path: Path) -> None:
    """Where it finds them is told by the function that finds models."""
    made(tmp_path / "one")
    shelf = shelf_of("first=one", 8, lambda name: tmp_path / name)
    assert list(shelf) == ["first"]


@pytest.mark.anyio
async def test_a_request_that_names_an_adapter_is_run_with_it(tmp_path: Path) -> None:
    """By `model` in OpenAI's routes, by `adapter_id` in TGI's; listed beside the model that it changes."""
    made(tmp_path / "lora")
    engine = ScriptedEngine(lambda _request, _plan: saying("Hi"), info())
    async with served(tmp_path, engine, adapters=f"sql={tmp_path / 'lora'}") as (client, _):
        proved, _ = engine.requests.pop()
        chat = await client.post("/v1/chat/completions", json={"model": "sql", "messages": [USER]})
        await client.post("/v1/completions", json={"model": "sql", "prompt": "x"})
        await client.post("/generate", json={"inputs": "x", "parameters": {"adapter_id": "sql"}})
        await client.post("/v1/choices/score", json={"model": "sql", "prompt": "x", "choices": ["a"]})
        await client.post("/v1/chat/completions", json={"messages": [USER]})
        listed = (await client.get("/v1/models")).json()["data"]
        unknown = await client.post("/generate", json={"inputs": "x", "parameters": {"adapter_id": "nosql"}})
    adapter = read(tmp_path / "lora")
    assert proved.adapter == adapter
    assert [request.adapter for request, _ in engine.requests] == [adapter, adapter, adapter, adapter, None]
    assert chat.json()["model"] == "sql"
    assert {each["id"]: each.get("parent") for each in listed} == {"tiny": None, "small": None, "sql": "tiny"}
    assert unknown.status_code == 422
    assert "no adapter is named 'nosql'; known: sql" in unknown.json()["error"]


@pytest.mark.anyio
async def test_adapters_come_and_go_at_run_time(tmp_path: Path) -> None:
    """From below one folder and from nowhere else; only for keys with the admin scope."""
    home = tmp_path / "home"
    made(home / "one")
    made(tmp_path / "secret")
    async with served(tmp_path, saying("Hi"), adapter_folder=str(home)) as (client, _):

        async def load(name: str, path: str) -> httpx.Response:
            return await client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})

        loaded = await load("one", "one")
        assert loaded.json() == {"lora_name": "one", "version": read(home / "one").version}
        assert (await client.get("/v1/models/one")).json()["parent"] == "tiny"
        outside = [await load("x", path) for path in ("../secret", str(tmp_path / "secret"), "two")]
        own = await load("tiny", "one")
        dropped = await client.post("/v1/unload_lora_adapter", json={"lora_name": "one"})
        again = await client.post("/v1/unload_lora_adapter", json={"lora_name": "one"})
        assert (await client.get("/v1/models/one")).status_code == 404
    assert [each.status_code for each in outside] == [400, 400, 400]
    assert "leads out" in outside[0].text
    assert "has no adapter_config.json" in outside[2].text
    assert own.status_code == 400
    assert (dropped.status_code, again.status_code) == (200, 404)


@pytest.mark.anyio
async def test_without_a_folder_nothing_is_loaded_at_run_time(tmp_path: Path) -> None:
    async with served(tmp_path, saying("Hi")) as (client, _):
        told = await client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "x"})
    assert told.status_code == 400
    assert "--adapter-folder" in told.text


@pytest.mark.anyio
async def test_an_adapter_that_does_not_fit_ends_the_start(tmp_path: Path) -> None:
    """With its name."""
    made(tmp_path / "lora")
    engine = ScriptedEngine(lambda _request, _plan: [InvalidRequest("adapter: rank 900")], info())
    with pytest.raises(AdapterError, match="adapter 'sql': adapter: rank 900"):
        async with served(tmp_path, engine, adapters=f"sql={tmp_path / 'lora'}"):
            pass
