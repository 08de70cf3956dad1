"""`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`: adapters at run time, for keys with the admin scope.

What it is for: only folders below `adapter_folder` can be named, and without that setting none. What may not enter:
how adapters are read or run.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import InvalidRequest
from schemas.adapters import AdapterReply, LoadAdapter, UnloadAdapter
from schemas.errors import OpenAIError
from service.access import Scope
from service.adapters import AdapterError, prove, read
from service.desk import Visit, receive
from service.errors import InvalidBody, NotFound
from service.openapi import DOCUMENTED
from service.streaming import JsonReply

router = APIRouter(tags=["Formwork"])

_LOAD: dict[str, Any] = {"lora_name": "support", "lora_path": "support-v2"}


@router.post(
    "/v1/load_lora_adapter", **DOCUMENTED.route(AdapterReply, body=LoadAdapter, error=OpenAIError, example=_LOAD)
)
async def load(request: Request) -> Response:
    """Gives the adapter in a folder a name, after the engine has run it once."""
    return await receive(request, _load, Scope.ADMIN)


@router.post(
    "/v1/unload_lora_adapter",
    **DOCUMENTED.route(AdapterReply, body=UnloadAdapter, error=OpenAIError, example={"lora_name": "support"}),
)
async def unload(request: Request) -> Response:
    """Forgets a name."""
    return await receive(request, _unload, Scope.ADMIN)


async def _load(visit: Visit) -> Response:
    body = await visit.body(LoadAdapter)
    house = visit.house
    if house.settings.max_adapters == 0:
        raise InvalidBody("this server serves no adapters: start it with --max-adapters", param="lora_name")
    if body.lora_name in house.settings.model_names:
        raise InvalidBody("this is the name of the model itself", param="lora_name")
    folder = _below(house.settings.adapter_folder, body.lora_path)
    try:
        adapter = await asyncio.to_thread(read, folder)
        await prove(house.engine, adapter)
    except (AdapterError, InvalidRequest) as error:
        raise InvalidBody(str(error), param="lora_path") from error
    house.adapters.put(body.lora_name, adapter)
    return JsonReply({"lora_name": body.lora_name, "version": adapter.version})


async def _unload(visit: Visit) -> Response:
    body = await visit.body(UnloadAdapter)
    if not visit.house.adapters.drop(body.lora_name):
        raise NotFound(f"no adapter is named {body.lora_name!r}")
    return JsonReply({"lora_name": body.lora_name, "version": None})


def _below(root: str, path: str) -> Path:
    """The folder, links followed; raises InvalidBody for one outside of the root."""
    if not root:
        raise InvalidBody("no adapters can be loaded at run time: start with --adapter-folder", param="lora_path")
    home = Path(root).resolve()
    folder = (home / path).resolve()
    if not folder.is_relative_to(home):
        raise InvalidBody("this path leads out of the server's adapter folder", param="lora_path")
    return folder
