"""`POST /v1/watermark/detect`.

What it is for: was this text made here? With the constraint it was made under, the grammar is replayed and only free
choices are scored; without it, what stands inside JSON strings, or all of it. What may not enter: the statistics
(watermark/), the replay (engine.marking, engine.reading).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from grammar.errors import GrammarTooLarge
from schemas.base import FormworkRequest
from schemas.errors import OpenAIError
from schemas.watermark import DetectReply, DetectRequest
from service import constraints, wishes
from service.access import Scope
from service.compile_protocol import Replayed
from service.compiling import CompiledConstraint
from service.constraints import Constraint
from service.desk import Visit, receive
from service.detection import Readings, judged, leaving_out, pictured, readings_of, told
from service.errors import InvalidBody
from service.evidence import KEYWORD, Texts, quoting
from service.house import House
from service.openapi import DOCUMENTED
from service.streaming import JsonReply, attended
from service.wishes import MOST_TOKENS
from watermark import Detector, UnknownKey

router = APIRouter(tags=["Formwork"])

MOST_PICTURED = 32_768  # a picture has a hundred bytes for each
_READ = {"whitespace", "property_order", "formats", "grammar"}  # the fields of `formwork` that say how a text was made
EXAMPLE: dict[str, Any] = {"text": "A text that may have been made here.", "response_format": {"type": "text"}}


@router.post(
    "/v1/watermark/detect", **DOCUMENTED.route(DetectReply, body=DetectRequest, error=OpenAIError, example=EXAMPLE)
)
async def detect(request: Request) -> Response:
    """The chance that unmarked text would look as marked as this one, over all keys of the server."""

    async def work(visit: Visit) -> Response:
        body = await visit.body(DetectRequest)
        return JsonReply(await attended(request, _detection(visit, body)))

    return await receive(request, work, Scope.DETECT)


async def _detection(visit: Visit, body: DetectRequest) -> dict[str, Any]:
    house, marker = visit.house, visit.house.marker
    house.model_named(body.model)
    compiled = await _compiled(visit, body)
    tokens = body.token_ids
    if tokens is None:
        tokens = await wishes.encode(house, body.text or "", "text", special=False)
    if body.picture is not None and len(tokens) > MOST_PICTURED:
        raise InvalidBody(f"a picture shows {MOST_PICTURED} tokens at most, these are {len(tokens)}", param="picture")
    if bad := next((token for token in tokens if token >= house.engine.info.vocab_size), None):
        raise InvalidBody(f"token id {bad} is outside the vocabulary", param="token_ids")
    replayed = await house.compiler.replay(compiled, tokens, marker.context, visit.tenant)
    if replayed.illegal is not None:
        raise InvalidBody(
            f"this text does not satisfy the constraint: token {replayed.illegal} is not legal there; "
            "without the constraint it is read as JSON or prose",
            param="text" if body.token_ids is None else "token_ids",
        )
    background = await _background(house, compiled, body.background, visit.tenant)
    try:
        detector = marker.detector(visit.tenant or None, body.key_id)
    except UnknownKey as error:
        raise InvalidBody(str(error), param="key_id") from None
    return await asyncio.to_thread(_answer, house, body, tokens, detector, replayed, background)


async def _compiled(visit: Visit, body: DetectRequest) -> CompiledConstraint | None:
    """The constraint as a reader must take it: the text may have been reordered or spaced anew since it was made."""
    made, loose = _made_under(visit, body)
    if made is None or loose is None:
        return None
    compiler = visit.house.compiler
    try:
        return await compiler.compile(loose, visit.tenant)
    except GrammarTooLarge:  # any order is the harder constraint; what was generated under is surely served
        return await compiler.compile(made, visit.tenant)


def _made_under(visit: Visit, body: DetectRequest) -> tuple[Constraint | None, Constraint | None]:
    """The constraint as it was generated under, and as loosely as the text may be spelled."""
    options = body.formwork or FormworkRequest()
    if idle := sorted(options.model_fields_set - _READ):
        raise InvalidBody(f"formwork.{idle[0]} means nothing to the detector", param=f"formwork.{idle[0]}")
    if options.grammar is not None:
        if body.response_format is not None:
            raise InvalidBody("send response_format or formwork.grammar, not both", param="formwork.grammar")
        named = visit.house.names.find(visit.tenant, options.grammar)
        return _quoting(named, body), _quoting(constraints.in_any_spelling(named), body)
    loose = options.model_copy(
        update={"whitespace": options.whitespace or "json", "property_order": options.property_order or "any"}
    )
    made, read = (constraints.of_response_format(body.response_format, each) for each in (options, loose))
    return _quoting(made, body), _quoting(read, body)


def _quoting(constraint: Constraint | None, body: DetectRequest) -> Constraint | None:
    """The constraint with the texts that it quotes from."""
    if body.source is None:
        return constraint
    told = quoting(constraint, Texts(tuple(enumerate(body.source))))
    if told is constraint:
        raise InvalidBody(f"nothing in the constraint quotes: it has no {KEYWORD}", param="source")
    return told


async def _background(
    house: House, compiled: CompiledConstraint | None, texts: Sequence[str], tenant: str
) -> list[Readings]:
    """Unmarked texts, read like the one that is judged; what does not satisfy the constraint says nothing."""
    each: list[list[int]] = []
    left = MOST_TOKENS
    for text in texts:
        each.append(await wishes.encode(house, text, "background", special=False))
        left -= len(each[-1])
        if left < 0:
            raise InvalidBody(f"at most {MOST_TOKENS} tokens of background are read at once", param="background")
    found: list[Readings] = []
    for tokens in each:
        replayed = await house.compiler.replay(compiled, tokens, house.marker.context, tenant)
        found.append(readings_of(replayed.readings, tokens))
    return found


def _answer(
    house: House,
    body: DetectRequest,
    tokens: list[int],
    detector: Detector,
    replayed: Replayed,
    background: list[Readings],
) -> dict[str, Any]:
    readings = readings_of(replayed.readings, tokens)
    threshold = house.marker.threshold
    finding = judged(
        detector, readings, leaving_out(background, house.marker.commonplaces), scan=body.scan, threshold=threshold
    )
    spelled = [house.tokenizer.token_bytes(token) for token in tokens]
    facts = told(finding, spelled, threshold) | {"canonical": body.token_ids is not None}
    if body.picture is not None:
        facts["picture"] = pictured(finding, spelled, body.picture)
    return facts
