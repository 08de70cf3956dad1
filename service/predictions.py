"""Several bodies at once, a text each: what Vertex AI and KServe ask for.

What it is for: `predicted`. What may not enter: either one's shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from grammar import GrammarError
from schemas.chat import ChatRequest
from schemas.tgi import GenerateRequest
from service import wishes
from service.accounts import count
from service.body import parse
from service.desk import Visit
from service.errors import InvalidBody, ServiceError
from service.gathering import gather_all
from service.generation import Generation, Prepared, Wish, prepare
from service.streaming import attended

_OF_CHAT = ("stream", "tools", "functions")
_OF_TGI = ("details", "decoder_input_details", "top_n_tokens")


@dataclass(frozen=True, slots=True)
class _Instance:
    """What is to be generated, and what its text begins with."""

    prepared: Prepared
    before: str


async def predicted(visit: Visit, bodies: Mapping[str, Mapping[str, Any]], prefix: str) -> list[str]:
    """The texts of TGI's or chat's bodies; each key says where its body stands. Raises what the client is told."""
    house = visit.house
    instances: list[_Instance] = []
    for place, body in bodies.items():
        if len(bodies) > house.settings.max_n:
            raise InvalidBody(f"at most {house.settings.max_n} are served at once", param=place.partition(".")[0])
        with _inside(place):
            instances.append(await _made(visit, body, prefix))
    generations = [Generation(house, each.prepared) for each in instances]
    told = await attended(visit.request, gather_all(generations))
    for generation in generations:
        count(house, generation)
    best = (max(each, key=lambda choice: choice.score) for each in told)
    return [each.before + choice.text for each, choice in zip(instances, best, strict=True)]


async def _made(visit: Visit, instance: Mapping[str, Any], prefix: str) -> _Instance:
    wish, before = await (_of_chat if "messages" in instance else _of_tgi)(visit, instance)
    return _Instance(await attended(visit.request, prepare(visit.house, wish, prefix)), before)


async def _of_tgi(visit: Visit, instance: Mapping[str, Any]) -> tuple[Wish, str]:
    body = parse(instance, GenerateRequest)
    if idle := next((name for name in _OF_TGI if getattr(body.parameters, name)), None):
        raise InvalidBody(f"a prediction is one text; {idle} needs /generate", param=f"parameters.{idle}")
    if body.stream:
        raise InvalidBody("a prediction is one text; stream needs /generate_stream", param="stream")
    wish = await wishes.of_tgi(visit.house, body, visit.tenant)
    return wish, body.inputs if body.parameters.return_full_text else ""


async def _of_chat(visit: Visit, instance: Mapping[str, Any]) -> tuple[Wish, str]:
    body = parse(instance, ChatRequest)
    visit.house.model_named(body.model)
    if idle := next((name for name in _OF_CHAT if getattr(body, name)), None):
        raise InvalidBody(f"a prediction is one text; {idle} needs /v1/chat/completions", param=idle)
    if (body.n or 1) > 1:
        raise InvalidBody("a prediction is one text; send the instance several times", param="n")
    return await wishes.of_chat(visit.house, body, visit.tenant), ""


@contextmanager
def _inside(place: str) -> Iterator[None]:
    """Errors name the instance that they are about."""
    try:
        yield
    except (ServiceError, GrammarError) as error:
        inner = error.__dict__.get("param")
        error.__dict__["param"] = f"{place}.{inner}" if inner else place
        raise
