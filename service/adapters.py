"""LoRA adapters by the names that clients use.

What it is for: `model` (or TGI's `adapter_id`) may name an adapter; this says which folder that is, and which
version of it. What may not enter: weights (the engine loads them when a request needs them).

The idea: an adapter's version is a hash of its files, so that new content under an old name is a new adapter to the
engine: neither its weights nor its pages are taken for the old one's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine import Engine
from engine.messages import AdapterRef, Generate, Sampling
from service.errors import InvalidBody

_FILES = ("adapter_config.json", "adapter_model.safetensors")
_BLOCK = 1 << 20


class AdapterError(ValueError):
    """A folder that holds no adapter; the message names what is missing."""


def named_folders(setting: str) -> dict[str, str]:
    """`name=folder` pairs, separated by commas; a folder alone is its own name (TGI's LORA_ADAPTERS)."""
    found: dict[str, str] = {}
    for entry in filter(None, map(str.strip, setting.split(","))):
        name, equals, folder = entry.partition("=")
        name, folder = name.strip(), (folder if equals else name).strip()
        if not name or not folder:
            raise AdapterError(f"adapters: {entry!r} is not name=folder")
        if name in found:
            raise AdapterError(f"adapters: {name!r} is named twice")
        found[name] = folder
    return found


def read(folder: Path) -> AdapterRef:
    """The adapter in a folder, its files hashed. Raises AdapterError."""
    digest = hashlib.sha256()
    for name in _FILES:
        file = folder / name
        if not file.is_file():
            raise AdapterError(f"{folder} has no {name}")
        with file.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
        digest.update(b"\0")
    return AdapterRef(str(folder.resolve()), digest.hexdigest()[:32])


@dataclass(slots=True)
class Shelf:
    """The adapters that may be asked for; `most` of them."""

    most: int
    _adapters: dict[str, AdapterRef] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self._adapters

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)

    def find(self, name: str | None) -> AdapterRef | None:
        """The adapter of this name, if it is one."""
        return None if name is None else self._adapters.get(name)

    def put(self, name: str, adapter: AdapterRef) -> None:
        """Gives an adapter a name; the same name again replaces it. Raises InvalidBody where there is no room."""
        if name not in self._adapters and len(self._adapters) >= self.most:
            raise InvalidBody(f"{self.most} adapters have names; unload one first", param="lora_name")
        self._adapters[name] = adapter

    def drop(self, name: str) -> bool:
        """Forgets a name; requests under way keep the adapter. False if there was none."""
        return self._adapters.pop(name, None) is not None


def shelf_of(setting: str, most: int, locate: Callable[[str], Path]) -> Shelf:
    """The adapters that a server starts with. Raises AdapterError."""
    folders: Mapping[str, str] = named_folders(setting)
    shelf = Shelf(max(most, len(folders)))
    for name, folder in folders.items():
        shelf.put(name, read(locate(folder)))
    return shelf


async def prove(engine: Engine, adapter: AdapterRef) -> None:
    """Draws one token with the adapter. Raises InvalidRequest where it does not fit the model."""
    sampling = Sampling(max_tokens=1, seed=0, temperature=0.0)
    request = Generate(request_id=f"adapter-{adapter.version}", prompt=[0], sampling=sampling, adapter=adapter)
    async for _ in engine.generate(request, None):
        pass
