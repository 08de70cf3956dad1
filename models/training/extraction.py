"""Extraction tasks: short texts about made-up subjects, and the JSON that a given schema draws from them.

What it is for: turning `facts` into (schema, text, answer). What may not enter: chat messages, templates, tokens.
The answer is spelled as the service spells it by default: `{"a": 1, "b": "x"}`, in the schema's property order.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from models.training.facts import CITY, EMAIL, NAME, SUBJECTS, Field, Subject, Value
from models.training.words import NOUNS, Draw

Schema = dict[str, Any]

_TYPES: dict[str, Schema] = {"strings": {"type": "array", "items": {"type": "string"}}}
_ALTERNATIVES = re.compile(r"\{([^{}|]+)\|([^{}|]+)\}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One drawn fact and the key that the schema asks for it under."""

    field: Field
    key: str
    value: Value

    def worded(self, template: str) -> str:
        """The template with the value in it; "{yes|no}" alternatives follow a boolean's truth."""
        chosen = _ALTERNATIVES.sub(lambda match: match[1] if self.value.spelled == "true" else match[2], template)
        return chosen.replace("{v}", self.value.said)


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
    taken: set[str] = field(default_factory=set)

    def spell(self, wanted: Field) -> str:
        plain = wanted.keys[0]
        key = plain if self.draw.chance(0.45) else self.draw.of(*wanted.keys)
        if self.draw.chance(0.03):
            key = self.draw.of(key.upper(), key.capitalize(), f"the_{key}", f"{key}_1")
        while key in self.taken:
            key = next((other for other in wanted.keys if other not in self.taken), f"{plain}_{len(self.taken)}")
        self.taken.add(key)
        return key


def extraction(draw: Draw, width: Width) -> Extraction:
    """One extraction task of a random form."""
    roll = draw.rng.random()
    if roll < 0.14:
        return _labelled(draw, width)
    if roll < 0.14 + 0.07 * width.spread:
        return _several(draw)
    if roll < 0.14 + 0.14 * width.spread:
        return _nested(draw)
    return _record(draw, width)


def schema_of(facts: list[Fact], draw: Draw, *, optional: bool = False) -> Schema:
    """The object schema that asks for these facts, in this order."""
    properties = {fact.key: _property(fact, draw) for fact in facts}
    schema: Schema = {"type": "object", "properties": properties}
    if not optional:
        schema |= {"required": list(properties)}
        if draw.chance(0.5):
            schema |= {"additionalProperties": False}
    return schema


def spell_object(pairs: list[tuple[str, str]]) -> str:
    """A JSON object from keys and spelled values."""
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {spelled}" for key, spelled in pairs) + "}"


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
    if fact.field.form and draw.chance(0.25):
        schema["format"] = fact.field.form
    if fact.field.about and draw.chance(0.2):
        schema["description"] = draw.of(*fact.field.about)
    return schema


def _drawn(draw: Draw, subject: Subject, count: int) -> tuple[Fact, list[Fact]]:
    keys = _Keys(draw)
    fields = draw.rng.sample(subject.fields, min(count, len(subject.fields)))
    name = Fact(subject.name, keys.spell(subject.name), subject.name.draw(draw))
    return name, [Fact(wanted, keys.spell(wanted), wanted.draw(draw)) for wanted in fields]


def _record(draw: Draw, width: Width) -> Extraction:
    subject = SUBJECTS[0] if draw.chance(0.3) else draw.rng.choice(SUBJECTS)
    asked_count = draw.rng.randint(1, width.most_fields - 1)
    unasked = draw.rng.choice((0, 0, 1, 2)) if width.most_fields > 3 else draw.rng.choice((0, 0, 1))
    name, facts = _drawn(draw, subject, asked_count + unasked)
    text = prose(draw, subject, name, facts)
    asked = draw.rng.sample(facts, min(asked_count, len(facts)))
    if draw.chance(0.8):
        asked.insert(0, name)
    if draw.chance(0.3):
        draw.rng.shuffle(asked)
    if draw.chance(0.07 * width.spread):
        return _with_absent(draw, subject, text, asked)
    return Extraction(subject.kind, text, schema_of(asked, draw, optional=draw.chance(0.12)), _answer(asked))


def _with_absent(draw: Draw, subject: Subject, text: str, asked: list[Fact]) -> Extraction:
    """One asked fact is not in the text: null if the schema allows null, else left out."""
    wanted = draw.of("nickname", "website", "fax", "comment", "middle_name", "notes", "discount", "twitter")
    place = draw.rng.randint(0, len(asked))
    pairs = [(fact.key, fact.value.spelled) for fact in asked]
    schema = schema_of(asked, draw)
    order = list(schema["properties"].items())
    if draw.chance(0.6):
        null_type: Schema = draw.rng.choice(
            ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]})
        )
        order.insert(place, (wanted, null_type))
        pairs.insert(place, (wanted, "null"))
        schema["required"] = [key for key, _ in order]
    else:
        order.insert(place, (wanted, {"type": "string"}))
    schema["properties"] = dict(order)
    return Extraction(subject.kind, text, schema, spell_object(pairs))


def prose(draw: Draw, subject: Subject, name: Fact, facts: list[Fact]) -> str:
    """The facts as running text, as a form, or in a breath."""
    roll = draw.rng.random()
    if roll < 0.13:
        return _form(draw, [name, *facts])
    if roll < 0.23:
        return ", ".join([name.value.said, *(_breath(draw, fact) for fact in facts)]) + draw.of("", ".")
    return _sentences(draw, subject, name, facts)


def _form(draw: Draw, facts: list[Fact]) -> str:
    separator, end = draw.rng.choice(
        ((": ", "\n"), (": ", "; "), (" = ", "\n"), (": ", ", "), (" - ", "\n"), (": ", ". "))
    )
    shuffled = draw.rng.sample(facts, len(facts))
    return end.join(f"{_label(draw, fact)}{separator}{_plainly(draw, fact)}" for fact in shuffled)


def _label(draw: Draw, fact: Fact) -> str:
    words = (fact.key if draw.chance(0.6) else fact.field.keys[0]).replace("_", " ")
    return words.capitalize() if draw.chance(0.7) else words


def _plainly(draw: Draw, fact: Fact) -> str:
    if fact.field.type == "boolean":
        yes, no = draw.rng.choice((("yes", "no"), ("true", "false"), ("Yes", "No")))
        return yes if fact.value.spelled == "true" else no
    return fact.value.said


def _breath(draw: Draw, fact: Fact) -> str:
    if fact.field.asides and draw.chance(0.8):
        return fact.worded(draw.of(*fact.field.asides))
    return fact.worded(draw.of(*fact.field.predicates))


def _sentences(draw: Draw, subject: Subject, name: Fact, facts: list[Fact]) -> str:
    """Asides behind the name in the first sentence, then predicates, now and then two in one sentence."""
    pronoun = draw.of(*subject.pronouns)
    asides: list[str] = []
    rest: list[Fact] = []
    for fact in facts:
        aside = fact.field.asides and len(asides) < 2 and draw.chance(0.35)
        (asides if aside else rest).append(fact.worded(draw.of(*fact.field.asides)) if aside else fact)  # type: ignore[arg-type]
    head = name.value.said
    opening = draw.of(head, head, head, f"{_lead(draw)}{head}") if subject.kind == "person" else head
    opening = (
        opening[0].upper() + opening[1:]
        if draw.chance(0.8) and opening == head and head.startswith("the ")
        else opening
    )
    begun = ", ".join([opening, *asides]) + ("," if asides and rest else "")
    if asides and not rest:
        return begun + draw.of("", ".")
    sentences: list[str] = []
    while rest:
        taken, rest = (rest[:2], rest[2:]) if len(rest) > 1 and draw.chance(0.4) else (rest[:1], rest[1:])
        said = draw.of(" and ", " and ", ", ").join(fact.worded(draw.of(*fact.field.predicates)) for fact in taken)
        who = begun if not sentences else draw.of(pronoun, pronoun, pronoun, head)
        sentences.append(f"{who} {said}.")
    if not sentences:
        return f"{opening}."
    if draw.chance(0.12):
        sentences.insert(draw.rng.randint(0, len(sentences)), _aside_sentence(draw))
    return " ".join(sentences)


def _lead(draw: Draw) -> str:
    return draw.of(
        "This is ", "Meet ", "Our new colleague ", "I met ", "Hello, I am ", "Yesterday ", "My friend ", "Customer "
    )


def _aside_sentence(draw: Draw) -> str:
    """A sentence that answers nothing."""
    return draw.of(
        "The weather was fine.",
        "Nobody knows why.",
        "That is all we know so far.",
        "More news will follow soon.",
        f"The {draw.listed(NOUNS)} was still on the table.",
        f"We spoke about the {draw.listed(NOUNS)} for a while.",
        f"{draw.coined()} was there too.",
        "Please keep this for our records.",
        "Thanks a lot!",
    )


def _labelled(draw: Draw, width: Width) -> Extraction:
    """Made-up labels with made-up values: the key is found by its spelling alone."""
    asked: list[tuple[str, Schema, str]] = []
    said: list[str] = []
    separator, end = draw.rng.choice(((": ", "\n"), (": ", ", "), (" is ", ". "), (" = ", "; ")))
    for _ in range(draw.rng.randint(1, width.most_fields)):
        key = draw.coined(capital=False, syllables=(1, 2)) if draw.chance(0.6) else draw.listed(NOUNS)
        if key in {taken for taken, _, _ in asked}:
            continue
        if draw.chance(0.35):
            value, kind = draw.digits(draw.rng.randint(1, 5)), "integer"
            spelled = value
        else:
            value, kind = (
                " ".join(draw.coined(capital=draw.chance(0.6)) for _ in range(draw.rng.choice((1, 1, 2, 3)))),
                "string",
            )
            spelled = json.dumps(value, ensure_ascii=False)
        asked.append((key, {"type": kind}, spelled))
        said.append(f"{'the ' if separator == ' is ' else ''}{key}{separator}{value}")
    draw.rng.shuffle(said)
    if len(asked) > 1 and draw.chance(0.3):
        asked.pop(draw.rng.randrange(len(asked)))
    schema = {
        "type": "object",
        "properties": {key: kind for key, kind, _ in asked},
        "required": [key for key, _, _ in asked],
    }
    return Extraction("labels", end.join(said), schema, spell_object([(key, spelled) for key, _, spelled in asked]))


def _several(draw: Draw) -> Extraction:
    """Two or three records of one kind: an array of objects."""
    subject = draw.rng.choice(SUBJECTS)
    fields = draw.rng.sample(
        [f for f in subject.fields if f.asides and f.type != "strings"] or list(subject.fields), 1 + draw.chance(0.4)
    )
    keys = _Keys(draw)
    named = [(wanted, keys.spell(wanted)) for wanted in (subject.name, *fields)]
    records = [[Fact(wanted, key, wanted.draw(draw)) for wanted, key in named] for _ in range(draw.rng.randint(1, 3))]
    if draw.chance(0.5):
        text = draw.of("\n", "; ", ". ").join(
            ", ".join([r[0].value.said, *(_breath(draw, f) for f in r[1:])]) for r in records
        )
    else:
        text = " ".join(_sentences(draw, subject, r[0], r[1:]) for r in records)
    array = {"type": "array", "items": schema_of(records[0], draw)}
    listed = "[" + ", ".join(_answer(record) for record in records) + "]"
    key = draw.of("items", "people" if subject.kind == "person" else f"{subject.kind}s", "records", "list", "results")
    schema = {"type": "object", "properties": {key: array}, "required": [key]}
    return Extraction(subject.kind, text, schema, spell_object([(key, listed)]))


def _nested(draw: Draw) -> Extraction:
    """An object inside the object: part of the facts, or a second subject."""
    if draw.chance(0.5):
        subject = draw.rng.choice(SUBJECTS)
        name, facts = _drawn(draw, subject, draw.rng.randint(2, 4))
        text, cut = prose(draw, subject, name, facts), draw.rng.randint(1, len(facts))
        outer, inner = [name, *facts[:cut]], facts[cut:] or [facts.pop()]
        outer = [fact for fact in outer if fact not in inner]
        key = draw.of("details", "info", "data", "more", "properties")
    else:
        subject = SUBJECTS[0]
        name, facts = _drawn(draw, SUBJECTS[draw.rng.randint(1, len(SUBJECTS) - 1)], draw.rng.randint(1, 2))
        keys = _Keys(draw)
        inner = [Fact(f, keys.spell(f), f.draw(draw)) for f in (NAME, *draw.rng.sample((CITY, EMAIL), 1))]
        about = next(s for s in SUBJECTS if s.name is name.field)
        text = (
            prose(draw, about, name, facts)
            + draw.of("\n", " ")
            + draw.of("Contact: ", "Asked by ", "Sent by ", "Responsible: ")
        )
        text += f"{inner[0].value.said}, {inner[1].worded(draw.of(*inner[1].field.asides))}."
        outer, key = [name, *facts], draw.of("contact", "person", "sender", "customer_data")
    pairs = [(fact.key, fact.value.spelled) for fact in outer]
    schema = schema_of(outer, draw)
    if key in schema["properties"]:
        key = f"{key}_2"
    schema["properties"][key] = schema_of(inner, draw)
    schema["required"] = list(schema["properties"])
    return Extraction(subject.kind, text, schema, spell_object([*pairs, (key, _answer(inner))]))
