"""service.adapters: names of LoRA adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.adapters import AdapterError, Shelf, named_folders, read, shelf_of
from service.errors import InvalidBody


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
