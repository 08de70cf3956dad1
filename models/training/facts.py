"""Typed facts: for each kind of subject, its fields, how each is named, worded and drawn.

What it is for: the vocabulary of the extraction texts. A `Field` knows its key spellings, its JSON type, how to draw a
value and the predicates that state it ("is {v} years old"). What may not enter: how sentences are joined, schemas, prompts.

A value is a pair of texts, as it stands in the prose and as it stands in the JSON answer; for strings both are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from models.training.words import (
    ADJECTIVES,
    CITIES,
    COMPANY_TAILS,
    COUNTRIES,
    DOMAINS,
    FIRST_NAMES,
    FOODS,
    JOBS,
    LANGUAGES,
    LAST_NAMES,
    NOUNS,
    PLACE_TAILS,
    STREET_TAILS,
    THEMES,
    TOPICS,
    Draw,
)


@dataclass(frozen=True, slots=True)
class Value:
    """A fact's value as prose says it and as JSON spells it."""

    said: str
    spelled: str


@dataclass(frozen=True, slots=True)
class Field:
    """One kind of fact about a subject."""

    keys: tuple[str, ...]  # the first is its plain name
    type: str  # as the schema says: string, integer, number, boolean, strings, enum:a|b
    draw: Callable[[Draw], Value]
    predicates: tuple[str, ...]  # after the subject; {v} is the value
    asides: tuple[str, ...] = ()  # right after the subject's name: "Ana Reis, 34,"
    about: tuple[str, ...] = ()  # what a schema's description may say
    form: str = ""  # the schema's format


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of thing that texts are about; its first field names it."""

    kind: str
    pronouns: tuple[str, ...]
    name: Field
    fields: tuple[Field, ...]


def _text(said: str) -> Value:
    return Value(said, json.dumps(said, ensure_ascii=False))


def _strings(make: Callable[[Draw], str]) -> Callable[[Draw], Value]:
    return lambda draw: _text(make(draw))


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
    return draw.listed(JOBS) if draw.chance(0.85) else f"{draw.coined(capital=False)} {draw.of('maker', 'engineer')}"


def product(draw: Draw) -> str:
    """A product's name."""
    noun = draw.listed(NOUNS)
    roll = draw.rng.random()
    if roll < 0.35:
        return f"{draw.listed(ADJECTIVES)} {noun}"
    if roll < 0.6:
        return f"{draw.coined()} {noun}"
    if roll < 0.8:
        return f"{draw.coined()} {draw.of('X', 'Pro', 'Max', 'Mini', 'S', 'Air', 'Go')}{draw.of('', ' ', '')}{draw.digits(draw.rng.randint(1, 3))}"
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


def _email(draw: Draw) -> str:
    user = draw.coined(capital=False) if draw.chance(0.6) else draw.listed(FIRST_NAMES).lower()
    if draw.chance(0.4):
        user += draw.of(".", "_", "") + draw.coined(capital=False)
    if draw.chance(0.2):
        user += draw.digits(2)
    return f"{user}@{draw.coined(capital=False)}.{draw.rng.choice(DOMAINS)}"


def _phone(draw: Draw) -> str:
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


def _date(draw: Draw) -> str:
    if draw.chance(0.5):
        return iso_date(draw)
    month = draw.of("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
    day, year = draw.rng.randint(1, 28), draw.rng.randint(1990, 2030)
    return draw.of(f"{month} {day}", f"{day} {month} {year}", f"{month} {day}, {year}", f"{day} {month}")


def _time(draw: Draw) -> str:
    return f"{draw.rng.randint(0, 23):02}:{draw.rng.choice((0, 15, 30, 45, 10, 20, 40, 5)):02}"


def _code(draw: Draw) -> str:
    letters = "".join(draw.rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=draw.rng.randint(1, 3)))
    return draw.of(
        f"{letters}-{draw.digits(4)}",
        f"{letters}{draw.digits(3)}",
        f"#{draw.digits(5)}",
        f"{letters}-{draw.digits(2)}-{letters}",
    )


def _street(draw: Draw) -> str:
    return f"{draw.rng.randint(1, 250)} {draw.coined()} {draw.rng.choice(STREET_TAILS)}"


def _place(draw: Draw) -> str:
    return f"{draw.of('the ', '', '')}{draw.coined()} {draw.rng.choice(PLACE_TAILS)}"


def _integer(low: int, high: int) -> Callable[[Draw], Value]:
    def draw_integer(draw: Draw) -> Value:
        number = draw.rng.randint(low, high)
        said = f"{number:,}" if number >= 10000 and draw.chance(0.15) else str(number)
        return Value(said, str(number))

    return draw_integer


def _amount(low: float, high: float, places: int) -> Callable[[Draw], Value]:
    def draw_amount(draw: Draw) -> Value:
        digits = 0 if places and draw.chance(0.25) else places
        text = f"{draw.rng.uniform(low, high):.{digits}f}"
        return Value(text, text)

    return draw_amount


def _some(make: Callable[[Draw], str], most: int = 4) -> Callable[[Draw], Value]:
    """A list of strings, said as "a, b and c"."""

    def draw_some(draw: Draw) -> Value:
        words = list(dict.fromkeys(make(draw) for _ in range(draw.rng.randint(1, most))))
        last = draw.of(" and ", ", ", " and ", " & ")
        said = ", ".join(words[:-1]) + last + words[-1] if len(words) > 1 else words[0]
        return Value(said, json.dumps(words, ensure_ascii=False))

    return draw_some


def _one_of(*words: str) -> tuple[str, Callable[[Draw], Value]]:
    return "enum:" + "|".join(words), lambda draw: _text(draw.of(*words))


def _truth(draw: Draw) -> Value:
    truth = draw.of("true", "false")
    return Value(truth, truth)


NAME = Field(
    (
        "name",
        "full_name",
        "person",
        "who",
        "customer",
        "fullName",
        "person_name",
        "contact",
        "Name",
        "author",
        "user",
        "employee",
    ),
    "string",
    _strings(person_name),
    (),
    about=("the person's name", "full name", "name of the person", "who it is about"),
)
AGE = Field(
    ("age", "years", "age_years", "ageInYears", "Age", "years_old"),
    "integer",
    _integer(1, 99),
    ("is {v} years old", "is {v}", "turned {v} this year", "is a {v}-year-old", "is aged {v}", "just turned {v}"),
    ("{v}", "aged {v}", "{v} years old", "age {v}"),
    ("age in years", "how old the person is", "the person's age"),
)
CITY = Field(
    ("city", "town", "location", "home", "place", "home_town", "residence", "lives_in", "hometown", "City"),
    "string",
    _strings(city),
    (
        "lives in {v}",
        "is from {v}",
        "comes from {v}",
        "has a flat in {v}",
        "moved to {v}",
        "is based in {v}",
        "resides in {v}",
    ),
    ("from {v}", "of {v}", "living in {v}", "who lives in {v}"),
    ("where the person lives", "home city", "town of residence"),
)
COUNTRY = Field(
    ("country", "nation", "country_of_origin", "nationality_country"),
    "string",
    lambda draw: _text(draw.listed(COUNTRIES)),
    ("was born in {v}", "grew up in {v}", "is a citizen of {v}", "holds a passport of {v}"),
    about=("country of origin", "the country"),
)
JOB = Field(
    ("job", "occupation", "profession", "role", "job_title", "work", "jobTitle", "position"),
    "string",
    _strings(job),
    ("works as a {v}", "is a {v}", "has worked as a {v} for years", "earns a living as a {v}", "is employed as a {v}"),
    ("a {v}", "the {v}"),
    ("what the person does for a living", "occupation"),
)
EMPLOYER = Field(
    ("company", "employer", "organization", "works_at", "firm", "organisation", "workplace"),
    "string",
    _strings(company),
    ("works at {v}", "is employed by {v}", "works for {v}", "joined {v}", "founded {v}"),
    ("of {v}",),
    ("the employer", "where the person works", "name of the company"),
)
EMAIL = Field(
    ("email", "mail", "e_mail", "contact_email", "email_address", "emailAddress"),
    "string",
    _strings(_email),
    ("can be reached at {v}", "uses the address {v}", "writes from {v}", "has the email {v}", "gets mail at {v}"),
    ("{v}", "email {v}"),
    ("e-mail address", "where to write"),
    "email",
)
PHONE = Field(
    ("phone", "telephone", "phone_number", "tel", "mobile", "phoneNumber"),
    "string",
    _strings(_phone),
    ("has the phone number {v}", "can be called at {v}", "answers the phone at {v}", "asks to be called on {v}"),
    ("phone {v}", "tel. {v}"),
    ("telephone number",),
)
MARRIED = Field(
    ("married", "is_married", "isMarried"),
    "boolean",
    _truth,
    ("{is|is not} married", "is {married|single}", "is {married|not married}"),
    about=("whether the person is married",),
)
HEIGHT = Field(
    ("height", "height_m", "height_cm", "heightCm"),
    "number",
    _amount(140, 210, 1),
    ("is {v} cm tall", "stands {v} cm tall", "measures {v} cm"),
    about=("height in centimetres",),
)
HOBBIES = Field(
    ("hobbies", "interests", "likes", "skills", "knows"),
    "strings",
    _some(lambda draw: draw.listed(TOPICS)),
    ("likes {v}", "enjoys {v}", "is interested in {v}", "is good at {v}", "loves {v}"),
    about=("what the person likes",),
)
SPOKEN = Field(
    ("languages", "speaks", "spoken_languages"),
    "strings",
    _some(lambda draw: draw.listed(LANGUAGES), 3),
    ("speaks {v}", "is fluent in {v}", "knows {v}"),
    about=("languages spoken",),
)
BORN = Field(
    ("birth_year", "born", "year_of_birth", "birthYear"),
    "integer",
    _integer(1930, 2015),
    ("was born in {v}", "was born in the year {v}"),
    ("born {v}", "born in {v}"),
    ("year of birth",),
)

_COLOR_TYPE, _COLOR = _one_of("red", "green", "blue", "black", "white", "yellow")
_SIZE_TYPE, _SIZE = _one_of("small", "medium", "large")
_PRIORITY_TYPE, _PRIORITY = _one_of("low", "medium", "high", "urgent")
_STATUS_TYPE, _STATUS = _one_of("open", "closed", "pending", "shipped", "cancelled")
_CURRENCY_TYPE, _CURRENCY = _one_of("USD", "EUR", "GBP", "JPY")

PRODUCT = Field(
    ("product", "item", "name", "product_name", "article", "title", "productName"),
    "string",
    _strings(product),
    (),
    about=("name of the product", "the item"),
)
PRICE = Field(
    ("price", "cost", "amount", "price_usd", "unit_price", "total", "unitPrice", "value"),
    "number",
    _amount(1, 999, 2),
    (
        "costs ${v}",
        "sells for ${v}",
        "costs {v} euros",
        "is priced at €{v}",
        "goes for {v} dollars",
        "is ${v}",
        "costs {v}",
    ),
    ("${v}", "€{v}", "{v} EUR", "at ${v}", "for ${v}"),
    ("price in dollars", "how much it costs"),
)
STOCK = Field(
    ("in_stock", "available", "inStock", "is_available", "in_store"),
    "boolean",
    _truth,
    ("is {in stock|out of stock}", "is {available|sold out}", "is {available|not available}", "{is|is not} in stock"),
    ("{in stock|out of stock}", "{available|sold out}"),
    ("whether it can be bought now",),
)
QUANTITY = Field(
    ("quantity", "count", "qty", "units", "stock", "number_of_items"),
    "integer",
    _integer(1, 500),
    ("comes in a pack of {v}", "has {v} units left", "was ordered {v} times", "is sold in boxes of {v}"),
    ("{v} pieces", "{v} units", "quantity {v}"),
    ("number of units", "how many"),
)
COLOR = Field(
    ("color", "colour"),
    _COLOR_TYPE,
    _COLOR,
    ("comes in {v}", "is {v}", "is painted {v}"),
    ("{v}", "in {v}"),
    ("its color",),
)
SIZE = Field(
    ("size",), _SIZE_TYPE, _SIZE, ("is of {v} size", "comes in size {v}", "fits size {v}"), ("size {v}", "{v}")
)
BRAND = Field(
    ("brand", "maker", "manufacturer", "vendor"),
    "string",
    _strings(company),
    ("is made by {v}", "is a product of {v}", "comes from {v}"),
    ("by {v}", "from {v}"),
    ("who makes it",),
)
RATING = Field(
    ("rating", "score", "stars"),
    "number",
    _amount(0.5, 5, 1),
    ("is rated {v} out of 5", "has a rating of {v}", "got {v} stars", "scores {v}"),
    ("rated {v}", "{v} stars"),
    ("average rating",),
)
WEIGHT = Field(
    ("weight", "weight_kg", "weightKg", "mass"),
    "number",
    _amount(0.1, 60, 1),
    ("weighs {v} kg", "has a weight of {v} kg"),
    ("{v} kg",),
)
TAGS = Field(
    ("tags", "keywords", "labels", "categories", "topics"),
    "strings",
    _some(lambda draw: draw.listed(TOPICS)),
    ("is tagged {v}", "is filed under {v}", "has the tags {v}", "belongs to {v}"),
    ("tags: {v}", "tagged {v}"),
    ("list of tags",),
)
SKU = Field(
    ("sku", "code", "id", "product_id", "reference", "productId"),
    "string",
    _strings(_code),
    ("has the code {v}", "is listed as {v}", "carries the number {v}"),
    ("code {v}", "{v}"),
    ("article number",),
)

EVENT = Field(
    ("event", "title", "name", "event_name", "meeting", "what"),
    "string",
    _strings(
        lambda draw: (
            f"{draw.of('the ', '', '')}{draw.coined()} {draw.of('Festival', 'Conference', 'Meetup', 'Fair', 'Workshop', 'Concert', 'Summit', 'Party')}"
        )
    ),
    (),
    about=("name of the event",),
)
DATE = Field(
    ("date", "day", "when", "event_date", "due_date", "eventDate", "deadline"),
    "string",
    _strings(_date),
    ("takes place on {v}", "is on {v}", "is planned for {v}", "happens on {v}", "was moved to {v}", "starts on {v}"),
    ("on {v}", "{v}"),
    ("when it takes place", "the date"),
)
TIME = Field(
    ("time", "start_time", "starts_at", "hour", "startTime"),
    "string",
    _strings(_time),
    ("starts at {v}", "begins at {v}", "opens its doors at {v}"),
    ("at {v}",),
    ("time of day",),
)
VENUE = Field(
    ("venue", "place", "location", "room", "where"),
    "string",
    _strings(_place),
    ("is held at {v}", "takes place at {v}", "is hosted at {v}"),
    ("at {v}",),
    ("where it is held",),
)
EVENT_CITY = Field(
    ("city", "town", "location", "where"),
    "string",
    _strings(city),
    ("takes place in {v}", "is held in {v}", "comes to {v}"),
    ("in {v}",),
    ("the city",),
)
HOST = Field(
    ("host", "organizer", "speaker", "organiser", "contact", "invited_by"),
    "string",
    _strings(person_name),
    ("is organized by {v}", "is hosted by {v}", "is led by {v}", "features {v}"),
    ("with {v}", "hosted by {v}"),
    ("who organizes it",),
)
GUESTS = Field(
    ("attendees", "guests", "visitors", "participants", "capacity"),
    "integer",
    _integer(5, 40000),
    ("expects {v} guests", "has {v} participants", "has room for {v} people", "drew {v} visitors"),
    ("{v} guests",),
    ("number of people",),
)
ONLINE = Field(
    ("online", "is_online", "remote"),
    "boolean",
    _truth,
    ("is held {online|on site}", "takes place {online|in person}"),
    (),
    ("whether online",),
)
FREE = Field(
    ("free", "is_free"),
    "boolean",
    _truth,
    ("is {free of charge|not free}", "{is|is not} free"),
    (),
    ("whether entry is free",),
)

BOOK = Field(
    ("title", "book", "name", "book_title", "work"),
    "string",
    lambda draw: _text(title(draw)),
    (),
    about=("title of the work", "the book's title"),
)
AUTHOR = Field(
    ("author", "writer", "written_by", "by", "creator"),
    "string",
    _strings(person_name),
    ("was written by {v}", "is by {v}", "is the work of {v}", "was created by {v}"),
    ("by {v}",),
    ("who wrote it",),
)
YEAR = Field(
    ("year", "published", "publication_year", "released", "release_year", "publicationYear"),
    "integer",
    _integer(1800, 2030),
    ("came out in {v}", "was published in {v}", "appeared in {v}", "was released in {v}"),
    ("{v}", "published {v}"),
    ("year of publication",),
)
PAGES = Field(
    ("pages", "page_count", "length", "num_pages"),
    "integer",
    _integer(30, 1400),
    ("has {v} pages", "runs to {v} pages"),
    ("{v} pages",),
)
GENRE_TYPE, _GENRE = _one_of("fiction", "history", "science", "poetry", "fantasy", "mystery")
GENRE = Field(
    ("genre", "category", "type"),
    GENRE_TYPE,
    _GENRE,
    ("is a work of {v}", "belongs to {v}", "is shelved under {v}"),
    ("{v}",),
)
PUBLISHER = Field(
    ("publisher", "house", "label"),
    "string",
    _strings(company),
    ("is published by {v}", "was brought out by {v}"),
    ("{v}",),
    ("publishing house",),
)

COMPANY = Field(
    ("company", "name", "company_name", "organization", "firm", "startup"),
    "string",
    _strings(company),
    (),
    about=("name of the company",),
)
FOUNDED = Field(
    ("founded", "year", "founded_in", "founding_year"),
    "integer",
    _integer(1850, 2026),
    ("was founded in {v}", "dates back to {v}"),
    ("founded {v}",),
)
STAFF = Field(
    ("employees", "staff", "headcount", "size", "team_size"),
    "integer",
    _integer(2, 90000),
    ("has {v} employees", "employs {v} people", "has a staff of {v}"),
    ("{v} employees",),
    ("number of employees",),
)
CEO = Field(
    ("ceo", "founder", "boss", "director", "manager"),
    "string",
    _strings(person_name),
    ("is led by {v}", "was founded by {v}", "is run by {v}"),
    (),
)
SEAT = Field(
    ("headquarters", "city", "hq", "location", "seat"),
    "string",
    _strings(city),
    ("is based in {v}", "has its seat in {v}", "sits in {v}"),
    ("of {v}", "from {v}"),
)
REVENUE = Field(
    ("revenue", "turnover", "sales", "revenue_millions"),
    "number",
    _amount(0.1, 900, 1),
    ("made {v} million last year", "has a revenue of {v} million"),
    (),
)

ORDER = Field(
    ("order_id", "order", "id", "number", "orderId", "ticket", "reference"),
    "string",
    _strings(_code),
    (),
    about=("the order's number",),
)
BUYER = Field(
    ("customer", "buyer", "client", "name", "customer_name", "ordered_by"),
    "string",
    _strings(person_name),
    ("was placed by {v}", "came from {v}", "is for {v}", "belongs to {v}"),
    ("for {v}", "from {v}"),
    ("who ordered",),
)
ORDERED = Field(
    ("product", "item", "article"),
    "string",
    _strings(product),
    ("is about a {v}", "contains a {v}", "concerns the {v}"),
    (),
    ("what was ordered",),
)
STATUS = Field(
    ("status", "state"), _STATUS_TYPE, _STATUS, ("is {v}", "was marked as {v}", "is currently {v}"), ("{v}",)
)
PRIORITY = Field(
    ("priority", "urgency", "level"),
    _PRIORITY_TYPE,
    _PRIORITY,
    ("has {v} priority", "is of {v} priority"),
    ("{v} priority",),
)
TOTAL = Field(
    ("total", "amount", "sum", "price", "total_price"),
    "number",
    _amount(2, 5000, 2),
    ("comes to ${v}", "adds up to {v} euros", "totals {v}"),
    ("${v}", "total {v}"),
)
SHIPPING = Field(
    ("street", "address", "shipping_address", "delivery_address"),
    "string",
    _strings(_street),
    ("goes to {v}", "ships to {v}", "is sent to {v}"),
    (),
)
PAID = Field(
    ("paid", "is_paid"), "boolean", _truth, ("{has|has not} been paid", "is {paid|unpaid}"), ("{paid|unpaid}",)
)
CURRENCY = Field(("currency",), _CURRENCY_TYPE, _CURRENCY, ("is billed in {v}", "was paid in {v}"), ())
ITEMS = Field(
    ("quantity", "items", "qty", "count"),
    "integer",
    _integer(1, 99),
    ("covers {v} items", "contains {v} pieces"),
    ("{v} items",),
)

TRIP = Field(
    ("flight", "flight_number", "train", "flightNumber", "trip"),
    "string",
    _strings(_code),
    (),
    about=("number of the flight",),
)
ORIGIN = Field(
    ("from", "origin", "departure", "departure_city"),
    "string",
    _strings(city),
    ("leaves from {v}", "departs from {v}", "starts in {v}"),
    ("from {v}",),
)
GOAL = Field(
    ("to", "destination", "arrival", "arrival_city"),
    "string",
    _strings(city),
    ("goes to {v}", "flies to {v}", "arrives in {v}"),
    ("to {v}",),
)
GATE = Field(
    ("gate", "platform", "track"),
    "string",
    _strings(_code),
    ("leaves from gate {v}", "boards at gate {v}"),
    ("gate {v}",),
)
PASSENGER = Field(
    ("passenger", "traveller", "name"),
    "string",
    _strings(person_name),
    ("is booked for {v}", "carries {v}"),
    ("for {v}",),
)
DELAY = Field(
    ("delay", "delay_minutes", "late_by"),
    "integer",
    _integer(1, 240),
    ("is {v} minutes late", "is delayed by {v} minutes"),
    ("{v} minutes late",),
)

DISH = Field(
    ("dish", "recipe", "name", "meal"),
    "string",
    _strings(
        lambda draw: f"{draw.coined()} {draw.of('soup', 'salad', 'stew', 'pie', 'curry', 'cake', 'pasta', 'bread')}"
    ),
    (),
    about=("the dish",),
)
INGREDIENTS = Field(
    ("ingredients", "needs", "contains", "shopping_list"),
    "strings",
    _some(lambda draw: draw.listed(FOODS), 5),
    ("needs {v}", "is made with {v}", "contains {v}", "calls for {v}"),
    ("with {v}",),
    ("what goes in",),
)
SERVES = Field(
    ("servings", "serves", "portions"),
    "integer",
    _integer(1, 12),
    ("serves {v}", "makes {v} portions", "is enough for {v} people"),
    ("serves {v}",),
)
MINUTES = Field(
    ("minutes", "cooking_time", "duration", "time_minutes"),
    "integer",
    _integer(5, 180),
    ("takes {v} minutes", "is ready in {v} minutes"),
    ("{v} minutes",),
)
VEGAN = Field(("vegan", "vegetarian"), "boolean", _truth, ("{is|is not} vegan", "is {vegan|not vegan}"), ())

PET = Field(
    ("name", "pet", "animal_name", "pet_name"),
    "string",
    lambda draw: _text(draw.coined(syllables=(1, 2))),
    (),
    about=("the pet's name",),
)
_SPECIES_TYPE, _SPECIES = _one_of("dog", "cat", "horse", "rabbit", "parrot")
SPECIES = Field(
    ("species", "animal", "kind", "type"),
    _SPECIES_TYPE,
    _SPECIES,
    ("is a {v}",),
    ("a {v}", "the {v}"),
    ("what animal it is",),
)
OWNER = Field(
    ("owner", "keeper", "human"),
    "string",
    _strings(person_name),
    ("belongs to {v}", "lives with {v}"),
    (),
    ("who owns it",),
)
VACCINATED = Field(
    ("vaccinated", "is_vaccinated"), "boolean", _truth, ("{is|is not} vaccinated", "{has|has not} been vaccinated"), ()
)

PERSON_FIELDS = (AGE, CITY, COUNTRY, JOB, EMPLOYER, EMAIL, PHONE, MARRIED, HEIGHT, HOBBIES, SPOKEN, BORN)
SUBJECTS = (
    Subject("person", ("She", "He", "They"), NAME, PERSON_FIELDS),
    Subject("product", ("It",), PRODUCT, (PRICE, STOCK, QUANTITY, COLOR, SIZE, BRAND, RATING, WEIGHT, TAGS, SKU)),
    Subject("event", ("It",), EVENT, (DATE, TIME, VENUE, EVENT_CITY, HOST, GUESTS, ONLINE, FREE, PRICE)),
    Subject("book", ("It",), BOOK, (AUTHOR, YEAR, PAGES, GENRE, PUBLISHER, RATING, TAGS, PRICE)),
    Subject("company", ("It", "The company"), COMPANY, (FOUNDED, STAFF, CEO, SEAT, REVENUE, EMAIL, PHONE)),
    Subject(
        "order",
        ("It", "The order"),
        ORDER,
        (BUYER, ORDERED, STATUS, PRIORITY, TOTAL, SHIPPING, PAID, CURRENCY, ITEMS, DATE),
    ),
    Subject("trip", ("It",), TRIP, (ORIGIN, GOAL, GATE, PASSENGER, DELAY, TIME, DATE)),
    Subject("recipe", ("It", "The dish"), DISH, (INGREDIENTS, SERVES, MINUTES, VEGAN, RATING)),
    Subject("pet", ("It", "She", "He"), PET, (SPECIES, AGE, OWNER, WEIGHT, COLOR, VACCINATED)),
)
