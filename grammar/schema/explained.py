"""What becomes of each keyword of a schema, in plain values: enforced exactly, narrowed, an annotation, or idle."""

from typing import Any, Final

from grammar.frames.languages import MAX_UNROLLED
from grammar.schema.documents import Draft, Place
from grammar.schema.keywords import ANNOTATIONS, KEYWORDS, Schema

_ABOUT: Final = {
    "string": ("minLength", "maxLength", "pattern", "format", "x-source", "x-grammar"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": (
        "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains",
        "maxContains", "unevaluatedItems",
    ),
    "object": (
        "properties", "patternProperties", "additionalProperties", "required", "propertyNames", "minProperties",
        "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    ),
}  # fmt: skip
_LONG: Final = (
    f"exactly; where texts have to be told apart, only those on one side of a length over {MAX_UNROLLED} are offered"
)
_TYPE_OF: Final = {keyword: kind for kind, keywords in _ABOUT.items() for keyword in keywords}
_NEEDS: Final = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}
_NOTHING: Final = {"minLength": 0, "minItems": 0, "minProperties": 0, "uniqueItems": False, "required": []}
"""Values that ask for nothing."""
_TELLING: Final = frozenset(["anyOf", "oneOf", "not", "if", "contains", "dependentSchemas", "dependencies"])
"""Keywords under which texts may have to be told apart."""


def explained(schema: Schema) -> list[dict[str, str]]:
    """One entry for each keyword within reach: pointer, keyword, and how it is enforced."""
    places = schema.reach.places
    tells = any(not _TELLING.isdisjoint(place.raw) for place in places)
    return [
        {"pointer": place.pointer, "keyword": keyword, "enforced": _how(schema, place, keyword, tells=tells)}
        for place in places
        for keyword in place.raw
    ]


def notes_of(schema: Schema) -> list[str]:
    """What of a schema is not enforced exactly as its author may think, a line each."""
    told = [e for e in explained(schema) if e["enforced"] not in ("exactly", "annotation")]
    return [f"{e['pointer'] or '#'}/{e['keyword']}: {e['enforced']}" for e in told]


def _how(schema: Schema, place: Place, keyword: str, *, tells: bool) -> str:
    if keyword in ANNOTATIONS:
        return "annotation"
    if keyword != "$ref" and place.draft <= Draft.DRAFT7 and isinstance(place.raw.get("$ref"), str):
        return "does nothing beside $ref, up to draft 7"
    if keyword in ("then", "else"):  # read with their "if"
        return _idle(place.raw, keyword) or "exactly"
    rule = KEYWORDS.get(keyword)
    if rule is None:
        return "unknown keyword: an annotation"
    if not rule[0] <= place.draft <= rule[1]:
        return "not a keyword of this draft: an annotation"
    found = schema.notes.get((place.pointer, keyword)) or _idle(place.raw, keyword)
    if found is None and tells and keyword in ("minLength", "maxLength") and place.raw[keyword] > MAX_UNROLLED:
        return _LONG
    return found or "exactly"


def _idle(raw: dict[str, Any], keyword: str) -> str | None:
    """Why a keyword does nothing where it stands."""
    if keyword in _NOTHING and raw[keyword] == _NOTHING[keyword] and "x-source" not in raw:
        return "does nothing: it asks for nothing"
    if keyword == "if" and "then" not in raw and "else" not in raw:
        return "does nothing without then or else"
    if keyword == "additionalItems" and not isinstance(raw.get("items"), list):
        return "does nothing without a list of items"
    needed = _NEEDS.get(keyword)
    if needed is not None and needed not in raw:
        return f"does nothing without {needed}"
    allowed, about = raw.get("type"), _TYPE_OF.get(keyword)
    types = [allowed] if isinstance(allowed, str) else allowed
    if about is None or not types or "any" in types or about in types or (about == "number" and "integer" in types):
        return None
    return f"does nothing: no {about} is allowed here"
