"""What lies within reach of a schema's root: each schema object once, and which of them hold or refer to which."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from grammar.schema.documents import Documents, Draft, Place, subschemas


@dataclass(frozen=True, slots=True)
class Reach:
    """The schema objects that a value or a part of one may be judged by."""

    places: list[Place]
    links: list[tuple[int, int]]
    """(holder, held), by the identity of the raw objects."""
    is_dynamic: bool
    """Whether references also depend on how a subschema was reached, so that anything may lead anywhere."""

    @classmethod
    def of(cls, documents: Documents, references: Callable[[Place], list[str]]) -> "Reach":
        """All that the root of these documents leads to, by holding it or by the keywords that `references` names.

        Definitions that nothing refers to are left out. Where a dynamic reference ends depends on the way to it, so
        every dynamic anchor of a resource that is entered counts as reached.
        """
        places, links = list[Place](), list[tuple[int, int]]()
        todo, seen = [(documents.root, 0)], set()
        while todo:
            place, holder = todo.pop()
            raw = place.raw
            if not isinstance(raw, dict):
                continue
            at = id(raw)
            links.append((holder, at))
            place = documents.entered(place)
            key = (at, place.scope)
            if key in seen:
                continue
            seen.add(key)
            places.append(place)
            todo.extend([(documents.resolve(place, raw[keyword], keyword), at) for keyword in references(place)])
            if place.draft <= Draft.DRAFT7 and isinstance(raw.get("$ref"), str):
                continue
            todo.extend([(found, at) for found in documents.dynamic_anchors(place.base)])
            todo.extend([(child, at) for child in subschemas(place, applied=True)])
        return cls(places, links, documents.is_dynamic)

    def leading_to(self, wanted: Callable[[Any], bool]) -> frozenset[int]:
        """The identities of the schema objects that are `wanted`, or hold or refer to one that leads there."""
        todo = [id(place.raw) for place in self.places if wanted(place.raw)]
        if not todo:
            return frozenset()
        if self.is_dynamic:
            return frozenset(id(place.raw) for place in self.places)
        holders: dict[int, list[int]] = {}
        for holder, held in self.links:
            holders.setdefault(held, []).append(holder)
        return _closed(todo, holders)


def _closed(found: Iterable[int], holders: dict[int, list[int]]) -> frozenset[int]:
    todo = list(found)
    seen = set(todo)
    for each in todo:
        for holder in holders.get(each, ()):
            if holder not in seen:
                seen.add(holder)
                todo.append(holder)
    return frozenset(seen)
