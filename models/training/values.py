"""Values of facts: what a name, a date, a price looks like, as prose says it and as JSON spells it.

What it is for: drawing them from one side of the held-out split. What may not enter: what the values are about.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from models.training.words import (
    ADJECTIVES,
    CITIES,
    COMPANY_TAILS,
    DOMAINS,
    FIRST_NAMES,
    JOBS,
    LAST_NAMES,
    NOUNS,
    PLACE_TAILS,
    STREET_TAILS,
    THEMES,
    Draw,
)

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
SMALL_NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_MODELS = ("X", "Pro", "Max", "Mini", "S", "Air", "Go")


@dataclass(frozen=True, slots=True)
class Value:
    """A fact's value as prose says it and as JSON spells it."""

    said: str
    spelled: str


def text(said: str) -> Value:
    """A string, said as it is spelled."""
    return Value(said, json.dumps(said, ensure_ascii=False))


def strings(make: Callable[[Draw], str]) -> Callable[[Draw], Value]:
    """Draws string values."""
    return lambda draw: text(make(draw))


def person_name(draw: Draw) -> str:
    """A first name, mostly with a last name, real or made up."""
    first = draw.listed(FIRST_NAMES) if draw.chance(0.5) else draw.coined()
    last = draw.listed(LAST_NAMES) if draw.chance(0.4) else draw.coined()
    roll = draw.rng.random()
    if roll < 0.72:
        return f"{first} {last}"
    if roll < 0.86:
        return first
    if roll < 0.93:
        return f"{first} {draw.rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last}"
    return f"{first} {draw.coined()}-{last}" if draw.chance(0.4) else f"{draw.of('Dr.', 'Mr.', 'Ms.', 'Prof.')} {last}"


def city(draw: Draw) -> str:
    """A town, real or made up."""
    if draw.chance(0.5):
        return draw.listed(CITIES)
    coined = draw.coined()
    return coined if draw.chance(0.8) else f"{draw.of('San', 'New', 'Port', 'Saint', 'Upper', 'East')} {coined}"


def company(draw: Draw) -> str:
    """A firm's name."""
    name = draw.coined()
    return f"{name} {draw.rng.choice(COMPANY_TAILS)}" if draw.chance(0.6) else name


def job(draw: Draw) -> str:
    """An occupation."""
    return draw.loosely(JOBS) if draw.chance(0.85) else f"{draw.coined(capital=False)} {draw.of('maker', 'engineer')}"


def product(draw: Draw) -> str:
    """A product's name."""
    noun = draw.loosely(NOUNS)
    roll = draw.rng.random()
    if roll < 0.35:
        return f"{draw.listed(ADJECTIVES)} {noun}"
    if roll < 0.6:
        return f"{draw.coined()} {noun}"
    if roll < 0.8:
        return f"{draw.coined()} {draw.of(*_MODELS)}{draw.of('', ' ')}{draw.digits(draw.rng.randint(1, 3))}"
    return noun.capitalize() if draw.chance(0.5) else f"{draw.listed(ADJECTIVES).capitalize()} {noun.capitalize()}"


def title(draw: Draw) -> str:
    """The title of a book, song or film."""
    theme = draw.listed(THEMES).capitalize()
    roll = draw.rng.random()
    if roll < 0.3:
        return f"The {draw.listed(ADJECTIVES).capitalize()} {theme}"
    if roll < 0.5:
        return f"The {theme} of {draw.coined()}"
    if roll < 0.65:
        return f"{theme} and {draw.listed(THEMES).capitalize()}"
    return f"{draw.coined()} {theme}" if roll < 0.85 else f"{draw.listed(ADJECTIVES).capitalize()} {theme}"


def email(draw: Draw) -> str:
    """An e-mail address."""
    user = draw.coined(capital=False) if draw.chance(0.6) else draw.listed(FIRST_NAMES).lower()
    if draw.chance(0.4):
        user += draw.of(".", "_", "") + draw.coined(capital=False)
    if draw.chance(0.2):
        user += draw.digits(2)
    return f"{user}@{draw.coined(capital=False)}.{draw.rng.choice(DOMAINS)}"


def phone(draw: Draw) -> str:
    """A telephone number."""
    digits = draw.digits
    return draw.of(
        f"+{digits(2)} {digits(3)} {digits(3)} {digits(3)}",
        f"{digits(3)}-{digits(4)}",
        f"({digits(3)}) {digits(3)}-{digits(4)}",
        f"555-{digits(4)}",
    )


def iso_date(draw: Draw) -> str:
    """A date as 2026-03-14."""
    return f"{draw.rng.randint(1950, 2030)}-{draw.rng.randint(1, 12):02}-{draw.rng.randint(1, 28):02}"


def date(draw: Draw) -> str:
    """A date in some spelling, copied as it stands."""
    if draw.chance(0.5):
        return iso_date(draw)
    month, day, year = draw.of(*MONTHS), draw.rng.randint(1, 28), draw.rng.randint(1990, 2030)
    return draw.of(
        f"{month} {day}",
        f"{day} {month} {year}",
        f"{month} {day}, {year}",
        f"{day} {month}",
        f"{day}/{draw.rng.randint(1, 12)}/{year}",
    )


def calendar_date(draw: Draw) -> Value:
    """A date in some spelling, asked for as YYYY-MM-DD."""
    month, day, year = draw.rng.randint(1, 12), draw.rng.randint(1, 28), draw.rng.randint(1950, 2030)
    name, iso = MONTHS[month - 1], f"{year}-{month:02}-{day:02}"
    return Value(draw.of(iso, iso, f"{name} {day}, {year}", f"{day} {name} {year}"), f'"{iso}"')


def time(draw: Draw) -> str:
    """A time of day."""
    return f"{draw.rng.randint(0, 23):02}:{draw.rng.choice((0, 15, 30, 45, 10, 20, 40, 5)):02}"


def code(draw: Draw) -> str:
    """A reference such as AB-1234."""
    letters = "".join(draw.rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=draw.rng.randint(1, 3)))
    return draw.of(
        f"{letters}-{draw.digits(4)}",
        f"{letters}{draw.digits(3)}",
        f"#{draw.digits(5)}",
        f"{letters}-{draw.digits(2)}-{letters}",
    )


def website(draw: Draw) -> str:
    """An address on the web."""
    start, end = draw.of("https://", "www.", "https://www."), draw.of("com", "org", "io", "net")
    return f"{start}{draw.coined(capital=False)}.{end}"


def street(draw: Draw) -> str:
    """A street address."""
    return f"{draw.rng.randint(1, 250)} {draw.coined()} {draw.rng.choice(STREET_TAILS)}"


def place(draw: Draw) -> str:
    """A venue."""
    return f"{draw.coined()} {draw.rng.choice(PLACE_TAILS)}"


def integer(low: int, high: int) -> Callable[[Draw], Value]:
    """Draws integers; large ones now and then with thousands separators, small ones as words."""

    def draw_integer(draw: Draw) -> Value:
        number = draw.rng.randint(low, high)
        said = f"{number:,}" if number >= 1000 and high > 9999 and draw.chance(0.15) else str(number)
        if number < len(SMALL_NUMBERS) and draw.chance(0.3):
            said = SMALL_NUMBERS[number]
        return Value(said, str(number))

    return draw_integer


def amount(low: float, high: float, places: int) -> Callable[[Draw], Value]:
    """Draws decimal numbers."""

    def draw_amount(draw: Draw) -> Value:
        digits = 0 if places and draw.chance(0.25) else places
        text = f"{draw.rng.uniform(low, high):.{digits}f}"
        return Value(text, text)

    return draw_amount


def some(make: Callable[[Draw], str], most: int = 4) -> Callable[[Draw], Value]:
    """A list of strings, said as "a, b and c"."""

    def draw_some(draw: Draw) -> Value:
        words = list(dict.fromkeys(make(draw) for _ in range(draw.rng.randint(1, most))))
        last = draw.of(" and ", ", ", " and ", " & ")
        said = ", ".join(words[:-1]) + last + words[-1] if len(words) > 1 else words[0]
        return Value(said, json.dumps(words, ensure_ascii=False))

    return draw_some


def truth(draw: Draw) -> Value:
    """A boolean; how it is said is the template's affair."""
    chosen = draw.of("true", "false")
    return Value(chosen, chosen)
