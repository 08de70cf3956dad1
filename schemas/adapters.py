"""Adapters loaded and unloaded at run time, in vLLM's words.

What it is for: `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`. What may not enter: behaviour.
"""

from __future__ import annotations

from pydantic import Field

from schemas.base import Reply, Request


class LoadAdapter(Request):
    """A name for the adapter in a folder below the server's `adapter_folder`."""

    lora_name: str = Field(min_length=1, max_length=512)
    lora_path: str = Field(min_length=1, max_length=4096, description="Relative to the server's adapter folder.")


class UnloadAdapter(Request):
    """A name to forget; requests under way keep the adapter."""

    lora_name: str = Field(min_length=1, max_length=512)


class AdapterReply(Reply):
    """What the name stands for now."""

    lora_name: str
    version: str | None = Field(description="A hash of the adapter's files; null once it is unloaded.")
