"""What becomes of each keyword of a schema, in plain values: enforced exactly, narrowed, an annotation, or idle."""

from typing import Any, Final

from grammar.schema.documents import Place
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
_TYPE_OF: Final = {keyword: kind for kind, keywords in _ABOUT.items() for keyword in keywords}
_NEEDS: Final = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}


def explained(schema: Schema) -> list[dict[str, str]]:
    """One entry for each keyword within reach: pointer, keyword, and how it is enforced."""
    return [
        {"pointer": place.pointer, "keyword": keyword, "enforced": _how(schema, place, keyword)}
        for place in schema.reachable()
        for keyword in place.raw
    ]


def notes_of(schema: Schema) -> list[str]:
    """What of a schema is not enforced exactly as its author may think, a line each."""
    told = [e for e in explained(schema) if e["enforced"] not in ("exactly", "annotation")]
    return [f"{e['pointer'] or '#'}/{e['keyword']}: {e['enforced']}" for e in told]


def _how(schema: Schema, place: Place, keyword: str) -> str:
    if keyword in ANNOTATIONS:
        return "annotation"
    if keyword in ("then", "else"):  # read with their "if"
        return _idle(place.raw, keyword) or "exactly"
    rule = KEYWORDS.get(keyword)
    if rule is None:
        return "unknown keyword: an annotation"
    if not rule[0] <= place.draft <= rule[1]:
        return "not a keyword of this draft: an annotation"
    return schema.notes.get((place.pointer, keyword)) or _idle(place.raw, keyword) or "exactly"


def _idle(raw: dict[str, Any], keyword: str) -> str | None:
    """Why a keyword does nothing where it stands."""
    needed = _NEEDS.get(keyword)
    if needed is not None and needed not in raw:
        return f"does nothing without {needed}"
    allowed, about = raw.get("type"), _TYPE_OF.get(keyword)
    types = [allowed] if isinstance(allowed, str) else allowed
    if about is None or not types or "any" in types or about in types or (about == "number" and "integer" in types):
        return None
    return f"does nothing: no {about} is allowed here"
