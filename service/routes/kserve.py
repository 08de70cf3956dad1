"""`/v2`: KServe's open inference protocol over text, as TGI has it.

What it is for: health, metadata, and texts in tensors. What may not enter: how a text is generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from schemas.errors import TgiError
from schemas.kserve import InferReply, InferRequest, InputTensor, Live, ModelMetadata, ModelReady, Ready, ServerMetadata
from service.desk import Visit, house_of, receive, tenant_of
from service.errors import InvalidBody, renaming
from service.house import VERSION
from service.openapi import DOCUMENTED
from service.predictions import predicted
from service.routes.health import unready
from service.streaming import JsonReply

router = APIRouter(tags=["KServe"])

EXAMPLE: dict[str, Any] = {
    "inputs": [{"name": "text_input", "shape": [1], "datatype": "BYTES", "data": ["The colour of the sky: "]}],
    "parameters": {"max_new_tokens": 4},
}
_OUTPUT = "text_output"


@router.get("/v2", **DOCUMENTED.route(ServerMetadata, error=TgiError))
async def server(request: Request) -> Response:
    """What serves here."""
    tenant_of(request)
    return JsonReply({"name": "formwork", "version": VERSION, "extensions": []})


@router.get("/v2/health/live", **DOCUMENTED.route(Live))
async def live(_request: Request) -> Response:
    """The event loop turns."""
    return JsonReply({"live": True})


@router.get("/v2/health/ready", **DOCUMENTED.route(Ready))
async def ready(request: Request) -> Response:
    """New requests are taken."""
    is_ready = unready(house_of(request)) is None
    return JsonReply({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/v2/models/{model}/versions/{version}", include_in_schema=False)
@router.get("/v2/models/{model}", **DOCUMENTED.route(ModelMetadata, error=TgiError))
async def metadata(request: Request, model: str) -> Response:
    """A model's tensors."""
    tenant_of(request)
    name = house_of(request).model_named(model)
    tensors = {"datatype": "BYTES", "shape": [-1]}
    return JsonReply(
        {
            "name": name,
            "versions": ["1"],
            "platform": "formwork",
            "inputs": [{"name": "text_input", **tensors}],
            "outputs": [{"name": _OUTPUT, **tensors}],
        }
    )


@router.get("/v2/models/{model}/versions/{version}/ready", include_in_schema=False)
@router.get("/v2/models/{model}/ready", **DOCUMENTED.route(ModelReady, error=TgiError))
async def model_ready(request: Request, model: str) -> Response:
    """A model's readiness, which is the server's."""
    tenant_of(request)
    house = house_of(request)
    is_ready = unready(house) is None
    return JsonReply({"name": house.model_named(model), "ready": is_ready}, 200 if is_ready else 503)


@router.post("/v2/models/{model}/versions/{version}/infer", include_in_schema=False)
@router.post(
    "/v2/models/{model}/infer", **DOCUMENTED.route(InferReply, body=InferRequest, error=TgiError, example=EXAMPLE)
)
async def infer(request: Request, model: str) -> Response:
    """Continues the texts of all tensors."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(InferRequest)
        name = visit.house.model_named(model)
        outputs = [each.name for each in body.outputs] if body.outputs else [_OUTPUT] * len(body.inputs)
        if len(outputs) != len(body.inputs):
            raise InvalidBody(f"{len(outputs)} outputs for {len(body.inputs)} inputs", param="outputs")
        texts = {
            f"inputs.{place}.{index}": text
            for place, tensor in enumerate(body.inputs)
            for index, text in enumerate(_texts(tensor, f"inputs.{place}.data"))
        }
        parameters = body.parameters.model_dump(exclude_unset=True, by_alias=True)
        more = {"formwork": body.formwork.model_dump(exclude_unset=True)} if body.formwork else {}
        bodies = {place: {"inputs": text, "parameters": parameters, **more} for place, text in texts.items()}
        with renaming({f"{place}.parameters": "parameters" for place in bodies}):
            told = iter(await predicted(visit, bodies, "kserve-"))
        tensors = [_tensor(wanted, tensor, told) for wanted, tensor in zip(outputs, body.inputs, strict=True)]
        return JsonReply({"model_name": name, "id": body.id, "outputs": tensors})

    return await receive(request, work)


def _texts(tensor: InputTensor, param: str) -> list[str]:
    """The texts of a tensor; raises InvalidBody."""
    data = tensor.data
    strings = [each for each in data if isinstance(each, str)]
    if strings:
        if tensor.shape not in ([len(strings)], [1, len(strings)], [len(strings), 1]):
            raise InvalidBody(f"{len(strings)} strings have the shape [{len(strings)}]", param=param)
        return strings
    try:
        return [bytes(each for each in data if isinstance(each, int)).decode()]
    except UnicodeDecodeError as error:
        raise InvalidBody(f"no UTF-8 at byte {error.start}", param=param) from None


def _tensor(name: str, asked: InputTensor, told: Iterator[str]) -> dict[str, Any]:
    """What continues a tensor, written as that was."""
    if asked.data and isinstance(asked.data[0], str):
        data: list[Any] = [next(told) for _ in asked.data]
        shape = asked.shape
    else:
        data = list(next(told).encode())
        shape = [1, len(data)]
    return {"name": name, "shape": shape, "datatype": "BYTES", "data": data}
