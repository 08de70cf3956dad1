"""Facts as text: running sentences, forms, tables, or in a breath.

What it is for: saying drawn facts in many ways. What may not enter: schemas and answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.training.facts import Field, Subject
from models.training.values import Value
from models.training.words import NOUNS, Draw

_ALTERNATIVES = re.compile(r"\{([^{}|]+)\|([^{}|]+)\}")
_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")
_FIRST_PERSON = {"is": "am", "has": "have", "was": "was", "can": "can"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One drawn fact and the key that the schema asks for it under."""

    field: Field
    key: str
    value: Value

    def worded(self, template: str) -> str:
        """The template with the value in it; "{yes|no}" alternatives follow a boolean's truth."""
        chosen = _ALTERNATIVES.sub(lambda match: match[1] if self.value.spelled == "true" else match[2], template)
        article = template.find("a {v}") >= 0 and self.value.said[0] in "aeiou"
        return (_BEFORE_VOWEL.sub(r"\1n ", chosen.replace("{v}", self.value.said)) if article else chosen).replace(
            "{v}", self.value.said
        )


def prose(draw: Draw, subject: Subject, name: Fact, facts: list[Fact]) -> str:
    """The subject's facts as text of some form."""
    roll = draw.rng.random()
    if roll < 0.12:
        return form(draw, [name, *facts])
    if roll < 0.14:
        return _table(draw, [name, *facts])
    if roll < 0.25:
        separator = draw.of(", ", ", ", "; ", " - ", " | ")
        return separator.join([name.value.said, *(breath(draw, fact) for fact in facts)]) + draw.of("", ".")
    if roll < 0.33 and subject.kind == "person":
        return _first_person(draw, name, facts)
    return sentences(draw, subject, name, facts)


def form(draw: Draw, facts: list[Fact]) -> str:
    """Labels and values."""
    separator, end = draw.rng.choice(
        (
            (": ", "\n"),
            (": ", "; "),
            (" = ", "\n"),
            (": ", ", "),
            (" - ", "\n"),
            (": ", ". "),
            (":", "\n"),
            (": ", "\n- "),
        )
    )
    shuffled = draw.rng.sample(facts, len(facts))
    start = "- " if end == "\n- " else ""
    return start + end.join(f"{_label(draw, fact)}{separator}{plainly(draw, fact)}" for fact in shuffled)


def _table(draw: Draw, facts: list[Fact]) -> str:
    separator = draw.of(",", ";", " | ", "\t")
    keys = separator.join(fact.key for fact in facts)
    return f"{keys}\n{separator.join(plainly(draw, fact) for fact in facts)}"


def _label(draw: Draw, fact: Fact) -> str:
    words = (fact.key if draw.chance(0.6) else fact.field.keys[0]).replace("_", " ")
    return words.capitalize() if draw.chance(0.7) else words


def plainly(draw: Draw, fact: Fact) -> str:
    """The bare value; a boolean as yes or no."""
    if fact.field.type == "boolean":
        yes, no = draw.rng.choice((("yes", "no"), ("true", "false"), ("Yes", "No")))
        return yes if fact.value.spelled == "true" else no
    return fact.value.said


def breath(draw: Draw, fact: Fact) -> str:
    """The fact in few words."""
    if fact.field.asides and draw.chance(0.8):
        return fact.worded(draw.of(*fact.field.asides))
    return fact.worded(draw.of(*fact.field.predicates))


def _first_person(draw: Draw, name: Fact, facts: list[Fact]) -> str:
    hello = draw.of("I am ", "My name is ", "I'm ", "Hi, I am ", "Hello! My name is ", "This is ") + name.value.said
    said = [_as_i(fact.worded(draw.of(*fact.field.predicates))) for fact in facts]
    if len(said) == 1 or draw.chance(0.3):
        return f"{hello}, I " + draw.of(" and I ", ", I ", " and ").join(said) + "."
    return f"{hello}. " + " ".join(f"I {one}." for one in said)


def _as_i(predicate: str) -> str:
    verb, _, rest = predicate.partition(" ")
    return f"{_FIRST_PERSON.get(verb) or (verb if verb.endswith('ed') else verb.removesuffix('s'))} {rest}"


def sentences(draw: Draw, subject: Subject, name: Fact, facts: list[Fact]) -> str:
    """Asides behind the name in the first sentence, then predicates, now and then two in one sentence."""
    head = name.value.said
    asides, rest = _split(draw, facts)
    opening = _opening(draw, subject, head)
    begun = _with_asides(draw, opening, asides, going_on=bool(rest))
    said = [f"{begun}{draw.of('', '.')}"] if not rest else []
    while rest:
        taken, rest = (rest[:2], rest[2:]) if len(rest) > 1 and draw.chance(0.4) else (rest[:1], rest[1:])
        joined = draw.of(" and ", " and ", ", ").join(fact.worded(draw.of(*fact.field.predicates)) for fact in taken)
        who = begun if not said else draw.of(*subject.pronouns) if draw.chance(0.75) else head
        said.append(f"{who} {joined}.")
    if draw.chance(0.14):
        said.insert(draw.rng.randint(0, len(said)), _filler(draw))
    return " ".join(said)


def _split(draw: Draw, facts: list[Fact]) -> tuple[list[str], list[Fact]]:
    asides: list[str] = []
    rest: list[Fact] = []
    for fact in facts:
        if fact.field.asides and len(asides) < 2 and draw.chance(0.35):
            asides.append(fact.worded(draw.of(*fact.field.asides)))
        else:
            rest.append(fact)
    return asides, rest


def _opening(draw: Draw, subject: Subject, head: str) -> str:
    if subject.kind == "person" and draw.chance(0.25):
        return f"{_lead(draw)}{head}"
    if subject.kind in ("product", "pet", "recipe", "order", "trip", "event") and draw.chance(0.3):
        article = (
            draw.of("The ", "The ", "Our ", "This ") if subject.kind != "pet" else draw.of("Our ", "My pet ", "Little ")
        )
        return article + (f"{subject.kind} {head}" if subject.kind in ("order", "trip") else head)
    return head


def _with_asides(draw: Draw, opening: str, asides: list[str], *, going_on: bool) -> str:
    if not asides:
        return opening
    if draw.chance(0.2):
        return f"{opening} ({', '.join(asides)})"
    return ", ".join([opening, *asides]) + ("," if going_on else "")


def _lead(draw: Draw) -> str:
    return draw.of(
        "This is ",
        "Meet ",
        "Our new colleague ",
        "I met ",
        "Hello, I am ",
        "Yesterday ",
        "My friend ",
        "Customer ",
        "Say hello to ",
    )


def _filler(draw: Draw) -> str:
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
        "We had a good talk.",
        f"By the way, the {draw.listed(NOUNS)} is broken.",
    )


def filler_text(draw: Draw, count: int) -> str:
    """Several sentences that answer nothing, for long prompts."""
    return " ".join(_filler(draw) for _ in range(count))
