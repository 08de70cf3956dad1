"""A request's body: bounded, timed, strict JSON, then a valid value of the route's model.

What it is for: the one place where bytes from outside become values. What may not enter: what the values mean.

A body is received before its request has a place in the house: one that comes slowly holds nothing but its own bytes,
which `Reception` bounds over all of them.

JSON here is RFC 8259 without its loopholes: no duplicate keys (which one would count?), no NaN or Infinity, no numbers
that overflow to infinity, UTF-8 only, no halves of surrogate pairs.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from service.errors import BodyTimeout, BodyTooLarge, InvalidBody, Overloaded, UnsupportedMediaType
from service.mistakes import invalid_body

Model = TypeVar("Model", bound=BaseModel)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # only where one is escaped can one be alone


@dataclass(slots=True)
class Reception:
    """The bytes of bodies that are still arriving: of one, and of all together."""

    body_limit_bytes: int
    limit_bytes: int
    timeout_s: float
    held: int = 0
    refused: int = 0

    async def receive(self, request: Request) -> bytes:
        """The body of a JSON request; raises a ServiceError for one that is too large, too slow, or something else."""
        _check_media(request)
        length = request.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.body_limit_bytes:
            raise BodyTooLarge(f"the body has {length} bytes; at most {self.body_limit_bytes} are accepted")
        data = bytearray()
        try:
            async with asyncio.timeout(self.timeout_s):
                async for chunk in request.stream():
                    self._hold(len(chunk))
                    data += chunk
                    if len(data) > self.body_limit_bytes:
                        raise BodyTooLarge(f"the body is larger than {self.body_limit_bytes} bytes")
        except TimeoutError:
            raise BodyTimeout(f"the body did not arrive within {self.timeout_s:g} s") from None
        except ClientDisconnect:
            raise InvalidBody("the client went away before its body was complete") from None
        finally:
            self.held -= len(data)
        return bytes(data)

    def _hold(self, count: int) -> None:
        if self.held + count > self.limit_bytes:
            self.refused += 1
            raise Overloaded(f"{self.limit_bytes} bytes of bodies are arriving already")
        self.held += count


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json") and not _is_ollamas(request, media):
        raise UnsupportedMediaType(f"send Content-Type: application/json; this is {media or 'missing'}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":  # a small body could be unpacked into any size
        raise UnsupportedMediaType(f"send the body as it is; Content-Encoding {coding[:40]} is not accepted")


def _is_ollamas(request: Request, media: str) -> bool:
    """Ollama never asks for a media type, and its clients, curl in its own examples too, declare none or a form.

    A browser may send such a body to any site, but not without an Origin.
    """
    undeclared = media in {"", "application/x-www-form-urlencoded"} and "origin" not in request.headers
    return undeclared and request.url.path.startswith("/api/")


def parse(value: Any, model: type[Model]) -> Model:
    """The JSON value as `model`."""
    if not isinstance(value, dict):
        raise InvalidBody("the body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_body(error, value, field_names(model)) from None
    except RecursionError:
        raise InvalidBody("the body is nested too deeply") from None


def query(request: Request, model: type[Model]) -> Model:
    """The request's query as `model`; a list may be spelled `name=…` or `name[]=…`, once for each of its values."""
    asked: dict[str, Any] = {}
    lists = {name for name, field in model.model_fields.items() if _is_list(field.annotation)}
    for spelled, value in request.query_params.multi_items():
        name = spelled.removesuffix("[]")
        if name in lists:
            asked.setdefault(name, []).append(value)
        elif name in asked:
            raise InvalidBody("this stands twice in the query", param=name)
        else:
            asked[name] = value
    return parse(asked, model)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(get_origin(each) is list for each in get_args(annotation))


def field_names(model: type[BaseModel]) -> list[str]:
    """The names a client may use, as it spells them."""
    return sorted(field.alias or name for name, field in model.model_fields.items())


def strict_json(data: bytes) -> Any:
    """The value of a JSON text, or InvalidBody saying where it breaks."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidBody(f"the body is not UTF-8 (byte {error.start})") from None
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise InvalidBody("a string in the body has half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        raise InvalidBody(f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise InvalidBody("the JSON is nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidBody(f"a number in the body is out of range: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise InvalidBody(f"the key {_repeated(pairs)[:80]!r} stands twice in one object")
    return value


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    """The first name that has been there before. O(n): an object may have hundreds of thousands of them."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("called only where a name stands twice")


def _constant(name: str) -> NoReturn:
    raise InvalidBody(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidBody(f"the number {text[:40]} is out of range")
    return value
