"""KServe's open inference protocol, version 2, over text: health, metadata, infer.

What it is for: `/v2/…`, as TGI has it. What may not enter: behaviour. A text is a tensor of bytes: its elements are
strings, or, as TGI writes one text, the numbers of its bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import FormworkRequest, Reply, Request
from schemas.tgi import Parameters

Byte = Annotated[int, Field(ge=0, le=255)]
Data = Annotated[list[str], Field(min_length=1, max_length=128)] | Annotated[list[Byte], Field(max_length=4_000_000)]


class TensorParameters(Request):
    binary_data: Literal[False] | None = Field(default=None, description="Tensors are JSON here.")


class InputTensor(Request):
    name: str = Field(max_length=256)
    shape: list[int] = Field(max_length=8, description="Of strings, how many they are.")
    datatype: Literal["BYTES"]
    data: Data
    parameters: TensorParameters | None = None


class WantedTensor(Request):
    name: str = Field(max_length=256)
    parameters: TensorParameters | None = None


class InferRequest(Request):
    """Texts to be continued; `parameters` are those of `/generate`."""

    id: str | None = Field(default=None, max_length=256)
    inputs: list[InputTensor] = Field(min_length=1, max_length=128)
    outputs: Annotated[list[WantedTensor], Field(max_length=128)] | None = Field(
        default=None, description="A name for each input's output; without, text_output."
    )
    parameters: Parameters = Parameters()
    formwork: FormworkRequest | None = None


class OutputTensor(Reply):
    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str] | list[int]


class InferReply(Reply):
    model_name: str
    id: str | None
    outputs: list[OutputTensor]


class ServerMetadata(Reply):
    name: str
    version: str
    extensions: list[str]


class Tensor(Reply):
    name: str
    datatype: Literal["BYTES"]
    shape: list[int]


class ModelMetadata(Reply):
    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Live(Reply):
    live: bool


class Ready(Reply):
    ready: bool


class ModelReady(Ready):
    name: str
