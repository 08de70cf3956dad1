"""Extraction tasks: short texts about made-up subjects, and the JSON that a given schema draws from them.

What it is for: turning `facts` into (schema, text, answer). What may not enter: chat messages, templates, tokens.
The answer is spelled as the service spells it by default: `{"a": 1, "b": "x"}`, in the schema's property order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from models.training.facts import CITY, EMAIL, NAME, PHONE, SUBJECTS, Field, Subject
from models.training.labels import LABELLED
from models.training.values import Value, company, integer, person_name, product, strings
from models.training.wording import Fact, breath, filler_text, prose, sentences
from models.training.words import NOUNS, Draw

Schema = dict[str, Any]

_TYPES: dict[str, Schema] = {"strings": {"type": "array", "items": {"type": "string"}}}
_NULLABLE: tuple[Schema, ...] = ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]})
_ABSENT = ("nickname", "website", "fax", "comment", "middle_name", "notes", "discount", "twitter")


@dataclass(frozen=True, slots=True)
class Extraction:
    """A text, a schema for it, and the right answer."""

    subject: str
    text: str
    schema: Schema
    answer: str


@dataclass(frozen=True, slots=True)
class Width:
    """How wide the tasks are by now; training starts narrow and widens once copying works."""

    most_fields: int = 6
    spread: float = 1.0  # share of the harder forms (nesting, lists of records, absent values), 0 to 1


@dataclass(slots=True)
class _Keys:
    """Hands out key spellings, each once per object."""

    draw: Draw
    kind: str
    taken: set[str] = field(default_factory=set)

    def spell(self, wanted: Field) -> str:
        plain = wanted.keys[0]
        key = plain if self.draw.chance(0.45) else self.draw.of(*wanted.keys)
        if self.draw.chance(0.08):
            key = self._decorated(key)
        while key in self.taken:
            key = next((other for other in wanted.keys if other not in self.taken), f"{plain}_{len(self.taken)}")
        self.taken.add(key)
        return key

    def _decorated(self, key: str) -> str:
        first, rest = key[0].upper(), key[1:]
        return self.draw.of(
            key.upper(),
            first + rest,
            f"the_{key}",
            f"{self.kind}_{key}",
            f"{self.kind}{first}{rest}",
            f"{key}_value",
            f"{key}_text",
        )


def extraction(draw: Draw, width: Width) -> Extraction:
    """One extraction task of a random form."""
    roll, spread = draw.rng.random(), width.spread
    if roll < 0.12:
        return _labelled(draw, width)
    for share, make in ((0.06, _several), (0.07, _nested), (0.07, _review)):
        roll -= share * spread
        if roll < 0.12:
            return make(draw)
    return _record(draw, width)


def schema_of(facts: list[Fact], draw: Draw, *, optional: bool = False) -> Schema:
    """The object schema that asks for these facts, in this order."""
    return _object({fact.key: _property(fact, draw) for fact in facts}, draw, optional=optional)


def spell_object(pairs: list[tuple[str, str]]) -> str:
    """A JSON object from keys and spelled values."""
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {spelled}" for key, spelled in pairs) + "}"


def _object(properties: dict[str, Schema], draw: Draw, *, optional: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if not optional:
        schema |= {"required": list(properties)}
        if draw.chance(0.5):
            schema |= {"additionalProperties": False}
    return schema


def _answer(facts: list[Fact]) -> str:
    return spell_object([(fact.key, fact.value.spelled) for fact in facts])


def _property(fact: Fact, draw: Draw) -> Schema:
    kind = fact.field.type
    if kind.startswith("enum:"):
        words = kind[5:].split("|")
        draw.rng.shuffle(words)
        schema: Schema = {"type": "string", "enum": words} if draw.chance(0.5) else {"enum": words}
    else:
        schema = dict(_TYPES.get(kind, {"type": kind}))
    if fact.field.form and (fact.field.always_formed or draw.chance(0.25)):
        schema["format"] = fact.field.form
    if fact.field.about and draw.chance(0.2):
        schema["description"] = draw.of(*fact.field.about)
    return schema


def _drawn(draw: Draw, subject: Subject, count: int) -> tuple[Fact, list[Fact]]:
    keys = _Keys(draw, subject.kind)
    fields: dict[str, Field] = {}  # two fields of one plain name, such as two dates, would be ambiguous
    for wanted in draw.rng.sample(subject.fields, min(count, len(subject.fields))):
        fields.setdefault(wanted.keys[0], wanted)
    name = Fact(subject.name, keys.spell(subject.name), subject.name.draw(draw))
    return name, [Fact(wanted, keys.spell(wanted), wanted.draw(draw)) for wanted in fields.values()]


def _record(draw: Draw, width: Width) -> Extraction:
    subject = SUBJECTS[0] if draw.chance(0.3) else draw.rng.choice(SUBJECTS)
    asked_count = draw.rng.randint(1, width.most_fields - 1)
    unasked = draw.rng.choice((0, 0, 1, 2)) if width.most_fields > 3 else draw.rng.choice((0, 0, 1))
    name, facts = _drawn(draw, subject, asked_count + unasked)
    if draw.chance(0.03):
        name, facts = _lowered(name), [_lowered(fact) for fact in facts]
    text = prose(draw, subject, name, facts)
    if draw.chance(0.012 * width.spread):
        text = f"{filler_text(draw, draw.rng.randint(4, 30))} {text} {filler_text(draw, draw.rng.randint(0, 20))}"
    asked = draw.rng.sample(facts, min(asked_count, len(facts)))
    if draw.chance(0.8):
        asked.insert(0, name)
    if draw.chance(0.3):
        draw.rng.shuffle(asked)
    if draw.chance(0.06 * width.spread):
        return _with_absent(draw, subject, text, asked)
    return Extraction(subject.kind, text, schema_of(asked, draw, optional=draw.chance(0.12)), _answer(asked))


def _lowered(fact: Fact) -> Fact:
    """The fact as a hasty writer types it; enums and lists keep their spelling in the answer."""
    said = fact.value.said.lower()
    if fact.field.type != "string" or fact.field.always_formed:
        return fact
    return replace(fact, value=Value(said, json.dumps(said, ensure_ascii=False)))


def _with_absent(draw: Draw, subject: Subject, text: str, asked: list[Fact]) -> Extraction:
    """One asked fact is not in the text: null if the schema allows null, else left out."""
    wanted = draw.of(*_ABSENT)
    place = draw.rng.randint(0, len(asked))
    pairs = [(fact.key, fact.value.spelled) for fact in asked]
    schema = schema_of(asked, draw)
    order = list(schema["properties"].items())
    if draw.chance(0.6):
        order.insert(place, (wanted, draw.rng.choice(_NULLABLE)))
        pairs.insert(place, (wanted, "null"))
        schema["required"] = [key for key, _ in order]
    else:
        order.insert(place, (wanted, {"type": "string"}))
    schema["properties"] = dict(order)
    return Extraction(subject.kind, text, schema, spell_object(pairs))


def _labelled(draw: Draw, width: Width) -> Extraction:
    """Made-up labels with made-up values: the key is found by its spelling alone."""
    asked: dict[str, tuple[Schema, str]] = {}
    said: list[str] = []
    separator, end = draw.rng.choice(((": ", "\n"), (": ", ", "), (" is ", ". "), (" = ", "; ")))
    for _ in range(draw.rng.randint(1, width.most_fields)):
        key = draw.coined(capital=False, syllables=(1, 2)) if draw.chance(0.6) else draw.listed(NOUNS)
        if key not in asked:
            value, kind, spelled = _plain_value(draw)
            asked[key] = kind, spelled
            said.append(f"{'the ' if separator == ' is ' else ''}{key}{separator}{value}")
    draw.rng.shuffle(said)
    if len(asked) > 1 and draw.chance(0.3):
        del asked[draw.of(*asked)]
    schema = _object({key: kind for key, (kind, _) in asked.items()}, draw)
    return Extraction(
        "labels", end.join(said), schema, spell_object([(key, spelled) for key, (_, spelled) in asked.items()])
    )


def _plain_value(draw: Draw) -> tuple[str, Schema, str]:
    """(as said, schema, as spelled) of a value that no subject explains."""
    roll = draw.rng.random()
    if roll < 0.3:
        value = draw.digits(draw.rng.randint(1, 5))
        return value, {"type": "integer"}, value
    if roll < 0.38:
        answer = draw.of("true", "false")
        return draw.of(*(("yes", "true") if answer == "true" else ("no", "false"))), {"type": "boolean"}, answer
    if roll < 0.5:
        options = list(
            dict.fromkeys(draw.coined(capital=False, syllables=(1, 2)) for _ in range(draw.rng.randint(2, 4)))
        )
        chosen = draw.of(*options)
        return chosen, {"type": "string", "enum": options}, json.dumps(chosen, ensure_ascii=False)
    words = [draw.coined(capital=draw.chance(0.6)) for _ in range(draw.rng.choice((1, 1, 2, 3)))]
    return " ".join(words), {"type": "string"}, json.dumps(" ".join(words), ensure_ascii=False)


def _several(draw: Draw) -> Extraction:
    """One to three records of one kind: an array of objects."""
    subject = draw.rng.choice(SUBJECTS)
    apt = [wanted for wanted in subject.fields if wanted.asides and wanted.type != "strings"]
    keys = _Keys(draw, subject.kind)
    fields = draw.rng.sample(apt, 1 + draw.chance(0.4)) if len(apt) > 1 else apt
    named = [(wanted, keys.spell(wanted)) for wanted in (subject.name, *fields)]
    records = [[Fact(wanted, key, wanted.draw(draw)) for wanted, key in named] for _ in range(draw.rng.randint(1, 3))]
    if draw.chance(0.5):
        text = draw.of("\n", "; ", ". ").join(
            ", ".join([name.value.said, *(breath(draw, fact) for fact in facts)]) for name, *facts in records
        )
    else:
        text = " ".join(sentences(draw, subject, name, facts) for name, *facts in records)
    array = {"type": "array", "items": schema_of(records[0], draw)}
    listed = "[" + ", ".join(_answer(record) for record in records) + "]"
    if draw.chance(0.2):
        return Extraction(subject.kind, text, array, listed)
    key = draw.of("items", "people" if subject.kind == "person" else f"{subject.kind}s", "records", "list", "results")
    return Extraction(subject.kind, text, _object({key: array}, draw), spell_object([(key, listed)]))


def _nested(draw: Draw) -> Extraction:
    """An object inside the object: part of the facts, or a person beside the subject."""
    if draw.chance(0.5):
        subject = draw.rng.choice(SUBJECTS)
        name, facts = _drawn(draw, subject, draw.rng.randint(2, 4))
        cut = draw.rng.randint(0, len(facts) - 1)
        key = draw.of("details", "info", "data", "more", "properties")
        return _enclosed(draw, subject, prose(draw, subject, name, facts), [name, *facts[:cut]], key, facts[cut:])
    subject = draw.rng.choice(SUBJECTS[1:])
    name, facts = _drawn(draw, subject, draw.rng.randint(1, 2))
    keys = _Keys(draw, "contact")
    person, detail = (
        Fact(wanted, keys.spell(wanted), wanted.draw(draw)) for wanted in (NAME, draw.rng.choice((CITY, EMAIL, PHONE)))
    )
    lead = draw.of("Contact: ", "Asked by ", "Sent by ", "Responsible: ", "Contact person: ")
    text = (
        f"{prose(draw, subject, name, facts)}{draw.of(' ', chr(10))}{lead}{person.value.said}, {breath(draw, detail)}."
    )
    return _enclosed(
        draw, subject, text, [name, *facts], draw.of("contact", "person", "sender", "customer_data"), [person, detail]
    )


def _enclosed(draw: Draw, subject: Subject, text: str, outer: list[Fact], key: str, inner: list[Fact]) -> Extraction:
    while key in {fact.key for fact in outer}:
        key = f"{key}_2"
    properties = {fact.key: _property(fact, draw) for fact in outer} | {key: schema_of(inner, draw)}
    pairs = [(fact.key, fact.value.spelled) for fact in outer]
    return Extraction(subject.kind, text, _object(properties, draw), spell_object([*pairs, (key, _answer(inner))]))


def _review(draw: Draw) -> Extraction:
    """A judgement beside facts: a review with its sentiment, or a complaint with its category."""
    label = draw.of("sentiment", "sentiment", "category", "urgency")
    classes = LABELLED[label]
    judged = draw.of(*classes)
    said = draw.of(*classes[judged])
    options = list(classes)
    draw.rng.shuffle(options)
    if label == "sentiment":
        item, stars = product(draw), integer(1, 5)(draw)
        text = draw.of(
            f"I bought the {item}. {said[0].upper()}{said[1:]}. {stars.said} stars.",
            f"{item}: {said}. {stars.said} out of 5.",
            f"Review of the {item}: {said}! Rating: {stars.said}",
        )
        key = draw.of("product", "item", "name")
        facts: dict[str, tuple[Schema, str]] = {
            key: ({"type": "string"}, json.dumps(item, ensure_ascii=False)),
            draw.of("rating", "stars", "score"): ({"type": "integer"}, stars.spelled),
        }
    else:
        who, firm = strings(person_name)(draw), company(draw)
        text = draw.of(
            f"Hello, this is {who.said} from {firm}. {said[0].upper()}{said[1:]}.",
            f"{who.said} ({firm}): {said}",
            f"{said[0].upper()}{said[1:]}. Regards, {who.said}, {firm}",
        )
        facts = {
            draw.of("name", "customer", "sender", "person"): ({"type": "string"}, who.spelled),
            draw.of("company", "organization", "firm"): ({"type": "string"}, json.dumps(firm, ensure_ascii=False)),
        }
    if draw.chance(0.3):
        del facts[draw.of(*facts)]
    asked: list[tuple[str, tuple[Schema, str]]] = [
        *facts.items(),
        (draw.of(label, label, "label"), ({"type": "string", "enum": options}, json.dumps(judged))),
    ]
    draw.rng.shuffle(asked)
    schema = _object({key: kind for key, (kind, _) in asked}, draw)
    return Extraction("review", text, schema, spell_object([(key, spelled) for key, (_, spelled) in asked]))
