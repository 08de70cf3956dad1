"""Schema documents by URI: `$id`, anchors and JSON Pointers resolve here, and nothing is ever fetched.

A `Place` is one subschema: its raw value, base URI, draft, the pointer that error messages show, and the dynamic scope
(the chain of resources entered) where the documents use `$dynamicRef` at all.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from grammar.errors import GrammarError, GrammarTooLarge, UnsupportedConstraint


class Draft(IntEnum):
    """The drafts of JSON Schema, in order."""

    DRAFT4 = 4
    DRAFT6 = 6
    DRAFT7 = 7
    DRAFT2019 = 8
    DRAFT2020 = 9


_DRAFTS = {
    "json-schema.org/draft-03/schema": Draft.DRAFT4,
    "json-schema.org/draft-04/schema": Draft.DRAFT4,
    "json-schema.org/draft-05/schema": Draft.DRAFT4,
    "json-schema.org/draft-06/schema": Draft.DRAFT6,
    "json-schema.org/draft-07/schema": Draft.DRAFT7,
    "json-schema.org/draft/2019-09/schema": Draft.DRAFT2019,
    "json-schema.org/draft/2020-12/schema": Draft.DRAFT2020,
}

ONE_SCHEMA = ("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not",
              "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
SCHEMA_LISTS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
SCHEMA_MAPS = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")
"""Where subschemas stand: as the value, in a list, in a mapping."""

_ONE, _LIST, _MAP = 1, 2, 4
_HOLDERS: Final = {
    keyword: _ONE * (keyword in ONE_SCHEMA) | _LIST * (keyword in SCHEMA_LISTS) | _MAP * (keyword in SCHEMA_MAPS)
    for keyword in (*ONE_SCHEMA, *SCHEMA_LISTS, *SCHEMA_MAPS)
}
_DEFINITIONS: Final = ("$defs", "definitions")

MAX_DEPTH = 200


def draft_of(uri: object) -> Draft | None:
    """The draft that a `$schema` value names; None if it is unknown."""
    if not isinstance(uri, str):
        return None
    return _DRAFTS.get(uri.split("://")[-1].rstrip("#").rstrip("/"))


def _is_known(vocabulary: str) -> bool:
    return vocabulary.startswith(("https://json-schema.org/draft/2019-09/", "https://json-schema.org/draft/2020-12/"))


class Place(NamedTuple):
    """One subschema and all that its keywords need to know."""

    raw: Any
    base: str
    pointer: str
    draft: Draft
    scope: tuple[str, ...] = ()

    def child(self, raw: Any, *path: str | int) -> "Place":
        """The subschema at `path` below, in the same resource unless it has its own `$id`."""
        pointer = self.pointer
        for step in path:
            text = str(step)
            if "~" in text or "/" in text:
                text = text.replace("~", "~0").replace("/", "~1")
            pointer = f"{pointer}/{text}"
        return Place(raw, self.base, pointer, self.draft, self.scope)


class Documents:
    """All documents of one compilation, indexed by absolute URI (without fragment) and by anchor.

    `check` sees every subschema as its document is indexed, and may refuse it.
    """

    def __init__(
        self, schema: Any, documents: Mapping[str, Any], default: Draft, check: Callable[[Place], None]
    ) -> None:
        self._check = check
        self._checked: set[int] = set()
        self._resources: dict[str, Place] = {}
        self._anchors: dict[tuple[str, str], Place] = {}
        self._dynamic: set[tuple[str, str]] = set()
        self._resolved: dict[tuple[str, str], Place] = {}
        self._given = documents
        self._built_in: dict[str, Any] | None = None
        self._vocabularies: dict[str, frozenset[str]] = {}
        """By resource, the vocabularies of its own metaschema, where that names them."""
        self.root = self._add("", schema, self._dialect(schema, "", default), "")

    @property
    def is_dynamic(self) -> bool:
        """Whether some resource has a dynamic anchor, so that scopes matter."""
        return bool(self._dynamic)

    def resolve(self, place: Place, reference: str, keyword: str = "$ref") -> Place:
        """The subschema that `reference`, the value of `keyword`, names, seen from `place`."""
        known = self._resolved.get((place.base, reference))
        if known is None:
            known = self._resolved[place.base, reference] = self._resolve(place, reference, keyword)
        return known

    def _resolve(self, place: Place, reference: str, keyword: str) -> Place:
        uri, fragment = urldefrag(urljoin(place.base, reference) if reference[:1] != "#" else place.base + reference)
        resource = self._resources.get(uri) or self._load(uri, place)
        if resource is None:
            raise GrammarError(
                f"reference {reference!r} names no known document; give it in `documents`",
                pointer=place.pointer,
                keyword=keyword,
            )
        if not fragment:
            return resource
        fragment = unquote(fragment)
        if not fragment.startswith("/"):
            anchored = self._anchors.get((uri, fragment))
            if anchored is None:
                raise GrammarError(f"reference {reference!r}: no such anchor", pointer=place.pointer, keyword=keyword)
            return anchored
        return self._descend(resource, fragment, place, reference, keyword)

    def has_vocabulary(self, place: Place, name: str) -> bool:
        """Whether keywords of a vocabulary mean something here: a metaschema given along may leave them out."""
        named = self._vocabularies.get(place.base)
        return named is None or name in named

    def _dialect(self, raw: Any, base: str, default: Draft) -> Draft:
        """The draft that a resource names itself or by a metaschema given along, whose vocabularies are noted."""
        uri = raw.get("$schema") if isinstance(raw, dict) else None
        draft = draft_of(uri)
        metaschema = None if draft or not isinstance(uri, str) else self._given.get(uri, self._given.get(uri + "#"))
        if not isinstance(metaschema, dict):
            return draft or default
        vocabularies = metaschema.get("$vocabulary")
        if isinstance(vocabularies, dict):
            unknown = [name for name, required in vocabularies.items() if required is True and not _is_known(name)]
            if unknown:
                reason = f"its metaschema requires the vocabulary {unknown[0]!r}"
                raise UnsupportedConstraint(f"an unknown dialect: {reason}", keyword="$schema", reason=reason)
            self._vocabularies[base] = frozenset(str(name).rpartition("/")[2] for name in vocabularies)
        return draft_of(metaschema.get("$schema")) or default

    def dynamic(self, uri: str, anchor: str) -> Place | None:
        """The dynamic anchor `anchor` of resource `uri`, if it has one."""
        return self._anchors[uri, anchor] if (uri, anchor) in self._dynamic else None

    def dynamic_anchors(self, uri: str) -> list[Place]:
        """All dynamic anchors of resource `uri`."""
        return [place for at, place in self._anchors.items() if at in self._dynamic and at[0] == uri]

    def _descend(self, resource: Place, fragment: str, place: Place, reference: str, keyword: str) -> Place:
        raw, base, draft, scope_pointer = resource.raw, resource.base, resource.draft, resource.pointer
        for step in fragment[1:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(raw, dict) and key in raw:
                raw = raw[key]
            elif isinstance(raw, list) and key.isdigit() and int(key) < len(raw):
                raw = raw[int(key)]
            else:
                raise GrammarError(
                    f"reference {reference!r}: there is no {key!r}", pointer=place.pointer, keyword=keyword
                )
            scope_pointer += "/" + step
            if isinstance(raw, dict) and not isinstance(raw.get("$ref"), str):
                base, draft = self._rebase(raw, base, draft)
        target = Place(raw, base, scope_pointer, draft)
        self._vouch_below(target)
        return target

    def _rebase(self, raw: dict[str, Any], base: str, draft: Draft) -> tuple[str, Draft]:
        ident = raw.get("id" if draft is Draft.DRAFT4 else "$id")
        if isinstance(ident, str) and ident and not ident.startswith("#"):
            uri = urldefrag(urljoin(base, ident))[0]
            if uri in self._resources:
                return uri, self._resources[uri].draft
        return base, draft

    def _load(self, uri: str, place: Place) -> Place | None:
        raw = self._given.get(uri, self._given.get(uri + "#"))
        if raw is None and draft_of(uri) is None and not uri.startswith("https://json-schema.org/draft/"):
            return None
        if raw is None:
            if self._built_in is None:
                self._built_in = _metaschemas()
            raw = self._built_in.get(uri.rstrip("#")) or self._built_in.get(uri.rstrip("#") + "#")
        if raw is None:
            return None
        return self._add(uri, raw, self._dialect(raw, uri, place.draft), uri + "#")

    def _add(self, uri: str, raw: Any, draft: Draft, pointer: str) -> Place:
        """Index a document: its resources and anchors, wherever subschemas stand. Depth is checked here."""
        root = Place(raw, uri, pointer, draft)
        self._resources[uri] = root
        todo = [(root, 0)]
        while todo:
            place, depth = todo.pop()
            if not isinstance(place.raw, dict):
                continue
            if depth > MAX_DEPTH:
                raise GrammarTooLarge(f"subschemas nest deeper than {MAX_DEPTH}", pointer=place.pointer)
            place = self._index(place)
            self._vouch(place)
            if depth == 0 and place.base != uri:
                root = place
                self._resources[uri] = place
            for child in subschemas(place):
                todo.append((child, depth + 1))
        return root

    def _vouch(self, place: Place) -> None:
        """Check a subschema, once."""
        if id(place.raw) not in self._checked:
            self._check(place)
            self._checked.add(id(place.raw))

    def _vouch_below(self, place: Place) -> None:
        """Check a subschema that stands where no keyword puts one, so that indexing did not meet it."""
        todo = [place]
        while todo:
            place = todo.pop()
            if isinstance(place.raw, dict) and id(place.raw) not in self._checked:
                self._vouch(place)
                todo.extend(subschemas(place))

    def _index(self, place: Place) -> Place:
        raw = place.raw
        if place.draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str):
            return place
        ident = raw.get("id" if place.draft is Draft.DRAFT4 else "$id")
        if isinstance(ident, str) and ident:
            uri, fragment = urldefrag(urljoin(place.base, ident))
            if fragment and ident.startswith("#"):
                self._anchors[place.base, fragment] = place
            else:
                draft = self._dialect(raw, uri, place.draft)
                place = Place(raw, uri, place.pointer, draft)
                self._resources.setdefault(uri, place)
        if place.draft >= Draft.DRAFT2019:
            for keyword in ("$anchor", "$dynamicAnchor"):
                anchor = raw.get(keyword)
                if isinstance(anchor, str):
                    self._anchors[place.base, anchor] = place
                    if keyword == "$dynamicAnchor":
                        self._dynamic.add((place.base, anchor))
            if raw.get("$recursiveAnchor") is True:
                self._anchors[place.base, "$recursiveAnchor"] = place
                self._dynamic.add((place.base, "$recursiveAnchor"))
        return place

    def entered(self, place: Place) -> Place:
        """`place` with its own `$id` applied to the base, and the resource put on the dynamic scope."""
        raw = place.raw
        base, draft = place.base, place.draft
        if isinstance(raw, dict) and not (draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str)):
            base, draft = self._rebase(raw, base, draft)
        scope = place.scope
        if self.is_dynamic and (not scope or scope[-1] != base):
            scope = (*scope, base) if base not in scope else scope
        if base is place.base and draft is place.draft and scope is place.scope:
            return place
        return Place(raw, base, place.pointer, draft, scope)


def subschemas(place: Place, *, applied: bool = False) -> list[Place]:
    """The direct subschemas of a schema object, wherever a keyword holds one; `applied`: without mere definitions."""
    raw = place.raw
    found: list[Place] = []
    names = _DEFINITIONS if place.draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str) else raw
    for keyword in names:
        how = _HOLDERS.get(keyword)
        if how is None or (applied and keyword in _DEFINITIONS):
            continue
        value = raw.get(keyword)
        if how & _ONE and isinstance(value, (dict, bool)):
            found.append(place.child(value, keyword))
        elif how & _LIST and isinstance(value, list):
            found.extend([place.child(item, keyword, i) for i, item in enumerate(value)])
        elif how & _MAP and isinstance(value, dict):
            found.extend([place.child(v, keyword, name) for name, v in value.items() if isinstance(v, (dict, bool))])
    return found


def _metaschemas() -> dict[str, Any]:
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415  (costs 20 ms, and few schemas refer to a metaschema)

    return {uri: REGISTRY.contents(uri) for uri in REGISTRY}
