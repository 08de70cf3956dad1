"""Typed facts: for each kind of subject, its fields, how each is named, worded and drawn.

What it is for: the vocabulary of the extraction texts. A `Field` knows its key spellings, its JSON type, how to draw
a value and the predicates that state it ("is {v} years old"); a boolean's predicate holds both wordings, "{is|is not}".
What may not enter: how sentences are joined, schemas, prompts.
"""

# ruff: noqa: SIM905 - word lists read better as text than as quoted words
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.training.values import (
    Value,
    amount,
    calendar_date,
    city,
    code,
    company,
    date,
    email,
    integer,
    job,
    person_name,
    phone,
    place,
    product,
    some,
    street,
    strings,
    text,
    time,
    title,
    truth,
    website,
)
from models.training.words import COUNTRIES, FOODS, LANGUAGES, TOPICS, Draw


@dataclass(frozen=True, slots=True)
class Field:
    """One kind of fact about a subject."""

    keys: tuple[str, ...]  # the first is its plain name
    type: str  # as the schema says: string, integer, number, boolean, strings, enum:a|b
    draw: Callable[[Draw], Value]
    predicates: tuple[str, ...]  # after the subject; {v} is the value
    asides: tuple[str, ...]  # right after the subject's name: "Ana Reis, 34,"
    about: tuple[str, ...]  # what a schema's description may say
    form: str  # the schema's format
    always_formed: bool  # whether the schema must say so, because the value is spelled another way than in the text


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of thing that texts are about; its first field names it."""

    kind: str
    pronouns: tuple[str, ...]
    name: Field
    fields: tuple[Field, ...]


def _field(
    keys: str,
    draw: Callable[[Draw], Value],
    said: str = "",
    aside: str = "",
    about: str = "",
    kind: str = "string",
    form: str = "",
) -> Field:
    """A field from blank-separated keys and slash-separated wordings."""
    predicates, asides, described = (
        tuple(part.strip() for part in words.split(" / ") if part) for words in (said, aside, about)
    )
    return Field(tuple(keys.split()), kind, draw, predicates, asides, described, form.rstrip("!"), form.endswith("!"))


def _choice(keys: str, words: str, said: str, aside: str = "", about: str = "") -> Field:
    """A field whose schema is an enum of these words."""
    options = words.split()
    return _field(keys, lambda draw: text(draw.of(*options)), said, aside, about, kind="enum:" + "|".join(options))


_PERSON, _CITY, _COMPANY, _CODE = strings(person_name), strings(city), strings(company), strings(code)
_HAPPENING = "Festival Conference Meetup Fair Workshop Concert Summit Party Night Gala Marathon Lecture".split()
_MEAL = "soup salad stew pie curry cake pasta bread pizza omelette".split()

NAME = _field(
    "name full_name person who customer fullName person_name contact Name author user employee student patient member",
    _PERSON,
    about="the person's name / full name / name of the person / who it is about",
)
AGE = _field(
    "age years age_years ageInYears Age years_old",
    integer(1, 99),
    "is {v} years old / is {v} / turned {v} this year / is a {v}-year-old / is aged {v} / "
    "just turned {v} / is {v} years of age",
    "{v} / {v} / aged {v} / {v} years old / age {v}",
    "age in years / how old the person is / the person's age",
    "integer",
)
CITY = _field(
    "city town location home place home_town residence lives_in hometown City address_city",
    _CITY,
    "lives in {v} / lives in {v} / is from {v} / comes from {v} / has a flat in {v} / moved to {v} / is based in {v} / "
    "resides in {v} / has lived in {v} for years / is living in {v}",
    "from {v} / living in {v} / who lives in {v} / {v}",
    "where the person lives / home city / town of residence",
)
COUNTRY = _field(
    "country nation country_of_origin birth_country nationality",
    lambda draw: text(draw.loosely(COUNTRIES)),
    "was born in {v} / grew up in {v} / is a citizen of {v} / holds a passport of {v}",
    about="country of origin / the country",
)
JOB = _field(
    "job occupation profession role job_title work jobTitle position",
    strings(job),
    "works as a {v} / is a {v} / has worked as a {v} for years / "
    "earns a living as a {v} / is employed as a {v} / became a {v}",
    "a {v} / the {v} / {v}",
    "what the person does for a living / occupation",
)
EMPLOYER = _field(
    "company employer organization works_at firm organisation workplace",
    _COMPANY,
    "works at {v} / is employed by {v} / works for {v} / joined {v} / has a job at {v}",
    "of {v} / working at {v}",
    "the employer / where the person works / name of the company",
)
EMAIL = _field(
    "email mail e_mail contact_email email_address emailAddress",
    strings(email),
    "can be reached at {v} / uses the address {v} / writes from {v} / "
    "has the email {v} / gets mail at {v} / reads mail at {v}",
    "{v} / email {v} / <{v}>",
    "e-mail address / where to write",
    form="email",
)
PHONE = _field(
    "phone telephone phone_number tel mobile phoneNumber",
    strings(phone),
    "has the phone number {v} / can be called at {v} / answers the phone at {v} / asks to be called on {v}",
    "phone {v} / tel. {v}",
    "telephone number",
)
MARRIED = _field(
    "married is_married isMarried",
    truth,
    "{is|is not} married / is {married|single} / is {married|not married} / is {married|unmarried}",
    about="whether the person is married",
    kind="boolean",
)
STUDENT = _field(
    "student is_student enrolled",
    truth,
    "{is|is not} a student / {is|is no longer} enrolled",
    about="whether studying",
    kind="boolean",
)
HEIGHT = _field(
    "height height_m height_cm heightCm",
    amount(140, 210, 1),
    "is {v} cm tall / stands {v} cm tall / measures {v} cm",
    about="height in centimetres",
    kind="number",
)
SALARY = _field(
    "salary income pay yearly_salary",
    integer(900, 190000),
    "earns {v} a year / has a salary of ${v} / makes {v} euros",
    kind="integer",
)
HOBBIES = _field(
    "hobbies interests likes skills knows",
    some(lambda draw: draw.loosely(TOPICS)),
    "likes {v} / enjoys {v} / is interested in {v} / is good at {v} / loves {v} / knows {v}",
    about="what the person likes",
    kind="strings",
)
SPOKEN = _field(
    "languages speaks spoken_languages",
    some(lambda draw: draw.loosely(LANGUAGES), 3),
    "speaks {v} / is fluent in {v} / understands {v}",
    about="languages spoken",
    kind="strings",
)
BORN = _field(
    "birth_year born year_of_birth birthYear",
    integer(1930, 2015),
    "was born in {v} / was born in the year {v}",
    "born {v} / born in {v}",
    "year of birth",
    "integer",
)
BIRTHDAY = _field(
    "birthday date_of_birth birth_date dob birthDate",
    calendar_date,
    "was born on {v} / has a birthday on {v}",
    "born on {v}",
    form="date!",
)

PRODUCT = _field(
    "product item name product_name article title productName", strings(product), about="name of the product / the item"
)
PRICE = _field(
    "price cost amount price_usd unit_price total unitPrice value price_eur",
    amount(1, 999, 2),
    "costs ${v} / sells for ${v} / costs {v} euros / is priced at €{v} / "
    "goes for {v} dollars / is ${v} / costs {v} / costs {v} EUR / "
    "is on sale for ${v}",
    "${v} / €{v} / {v} EUR / at ${v} / for ${v} / {v} dollars",
    "price in dollars / how much it costs",
    "number",
)
STOCK = _field(
    "in_stock available inStock is_available in_store availability",
    truth,
    "is {in stock|out of stock} / is {available|sold out} / is {available|not available} / {is|is not} in stock / "
    "is currently {available|unavailable} / is {in stock|no longer in stock}",
    "{in stock|out of stock} / {available|sold out} / {in stock|not in stock}",
    "whether it can be bought now",
    "boolean",
)
QUANTITY = _field(
    "quantity count qty units stock number_of_items",
    integer(1, 500),
    "comes in a pack of {v} / has {v} units left / was ordered {v} times / is sold in boxes of {v}",
    "{v} pieces / {v} units / quantity {v}",
    "number of units / how many",
    "integer",
)
COLOR = _choice(
    "color colour",
    "red green blue black white yellow",
    "comes in {v} / is {v} / is painted {v}",
    "{v} / in {v}",
    "its color",
)
SIZE = _choice("size", "small medium large", "is of {v} size / comes in size {v} / fits size {v}", "size {v} / {v}")
BRAND = _field(
    "brand maker manufacturer vendor supplier",
    _COMPANY,
    "is made by {v} / is a product of {v} / comes from {v} / is sold by {v}",
    "by {v} / from {v}",
    "who makes it",
)
RATING = _field(
    "rating score stars",
    amount(0.5, 5, 1),
    "is rated {v} out of 5 / has a rating of {v} / got {v} stars / scores {v}",
    "rated {v} / {v} stars",
    "average rating",
    "number",
)
WEIGHT = _field(
    "weight weight_kg weightKg mass",
    amount(0.1, 60, 1),
    "weighs {v} kg / has a weight of {v} kg / weighs {v}kg",
    "{v} kg",
    kind="number",
)
WARRANTY = _field(
    "warranty warranty_years guarantee",
    integer(1, 10),
    "has {v} years of warranty / comes with a {v}-year warranty",
    kind="integer",
)
TAGS = _field(
    "tags keywords labels categories topics",
    some(lambda draw: draw.loosely(TOPICS)),
    "is tagged {v} / is filed under {v} / has the tags {v} / belongs to {v} / is about {v}",
    "tags: {v} / tagged {v}",
    "list of tags",
    "strings",
)
SKU = _field(
    "sku code id product_id reference productId serial",
    _CODE,
    "has the code {v} / is listed as {v} / carries the number {v} / has the id {v}",
    "code {v} / {v}",
    "article number",
)

EVENT = _field(
    "event title name event_name meeting what",
    strings(lambda draw: f"{draw.coined()} {draw.of(*_HAPPENING)}"),
    about="name of the event",
)
DATE = _field(
    "date day when event_date due_date eventDate deadline",
    strings(date),
    "takes place on {v} / is on {v} / is planned for {v} / happens on {v} / was moved to {v} / starts on {v}",
    "on {v} / {v}",
    "when it takes place / the date",
)
ISO_DATE = _field(
    "date day event_date due_date eventDate start_date",
    calendar_date,
    "takes place on {v} / is on {v} / is planned for {v} / happens on {v}",
    "on {v} / {v}",
    "when it takes place",
    form="date!",
)
TIME = _field(
    "time start_time starts_at hour startTime",
    strings(time),
    "starts at {v} / begins at {v} / opens its doors at {v}",
    "at {v}",
    "time of day",
)
VENUE = _field(
    "venue place location room where",
    strings(place),
    "is held at {v} / takes place at {v} / is hosted at the {v} / takes place in the {v}",
    "at {v} / at the {v}",
    "where it is held",
)
EVENT_CITY = _field(
    "city town location where", _CITY, "takes place in {v} / is held in {v} / comes to {v}", "in {v}", "the city"
)
HOST = _field(
    "host organizer speaker organiser contact invited_by",
    _PERSON,
    "is organized by {v} / is hosted by {v} / is led by {v} / features {v}",
    "with {v} / hosted by {v}",
    "who organizes it",
)
GUESTS = _field(
    "attendees guests visitors participants capacity",
    integer(5, 40000),
    "expects {v} guests / has {v} participants / has room for {v} people / drew {v} visitors",
    "{v} guests",
    "number of people",
    "integer",
)
INVITED = _field(
    "attendees guests participants invited people team",
    some(person_name, 3),
    "brings together {v} / is attended by {v} / was announced to {v}",
    "with {v}",
    "who takes part",
    "strings",
)
ONLINE = _field(
    "online is_online remote virtual",
    truth,
    "is held {online|on site} / takes place {online|in person}",
    about="whether online",
    kind="boolean",
)
FREE = _field(
    "free is_free",
    truth,
    "is {free of charge|not free} / {is|is not} free",
    about="whether entry is free",
    kind="boolean",
)

BOOK = _field(
    "title book name book_title work", lambda draw: text(title(draw)), about="title of the work / the book's title"
)
AUTHOR = _field(
    "author writer written_by by creator",
    _PERSON,
    "was written by {v} / is by {v} / is the work of {v} / was created by {v}",
    "by {v} / written by {v}",
    "who wrote it",
)
YEAR = _field(
    "year published publication_year released release_year publicationYear",
    integer(1800, 2030),
    "came out in {v} / was published in {v} / appeared in {v} / was released in {v} / is from {v}",
    "{v} / published {v} / published in {v}",
    "year of publication",
    "integer",
)
PAGES = _field(
    "pages page_count length num_pages",
    integer(30, 1400),
    "has {v} pages / runs to {v} pages",
    "{v} pages",
    kind="integer",
)
GENRE = _choice(
    "genre category type",
    "fiction history science poetry fantasy mystery",
    "is a work of {v} / belongs to {v} / is shelved under {v}",
    "{v}",
)
PUBLISHER = _field(
    "publisher house label",
    _COMPANY,
    "is published by {v} / was brought out by {v}",
    "{v} / published by {v}",
    "publishing house",
)

COMPANY = _field("company name company_name organization firm startup", _COMPANY, about="name of the company")
FOUNDED = _field(
    "founded year founded_in founding_year",
    integer(1850, 2026),
    "was founded in {v} / dates back to {v}",
    "founded {v} / founded in {v}",
    kind="integer",
)
STAFF = _field(
    "employees staff headcount size team_size",
    integer(2, 90000),
    "has {v} employees / employs {v} people / has a staff of {v}",
    "{v} employees",
    "number of employees",
    "integer",
)
CEO = _field(
    "ceo founder boss director manager",
    _PERSON,
    "is led by {v} / was founded by {v} / is run by {v} / is headed by {v}",
)
SEAT = _field(
    "headquarters city hq location seat",
    _CITY,
    "is based in {v} / has its seat in {v} / is headquartered in {v}",
    "of {v} / from {v} / based in {v}",
)
REVENUE = _field(
    "revenue turnover sales revenue_millions",
    amount(0.1, 900, 1),
    "made {v} million last year / has a revenue of {v} million",
    kind="number",
)
WEBSITE = _field(
    "website url site homepage web",
    strings(website),
    "has the website {v} / is on the web at {v}",
    "{v}",
    "address on the web",
)

ORDER = _field("order_id order id number orderId ticket reference order_number", _CODE, about="the order's number")
BUYER = _field(
    "customer buyer client name customer_name ordered_by",
    _PERSON,
    "was placed by {v} / came from {v} / is for {v} / belongs to {v}",
    "for {v} / from {v}",
    "who ordered",
)
ORDERED = _field(
    "product item article",
    strings(product),
    "is about a {v} / contains a {v} / concerns the {v}",
    about="what was ordered",
)
STATUS = _choice(
    "status state",
    "open closed pending shipped cancelled",
    "is {v} / was marked as {v} / is currently {v} / has the status {v}",
    "{v}",
)
PRIORITY = _choice(
    "priority urgency level", "low medium high urgent", "has {v} priority / is of {v} priority", "{v} priority"
)
TOTAL = _field(
    "total amount sum price total_price",
    amount(2, 5000, 2),
    "comes to ${v} / adds up to {v} euros / totals {v}",
    "${v} / total {v}",
    kind="number",
)
SHIPPING = _field(
    "street address shipping_address delivery_address",
    strings(street),
    "goes to {v} / ships to {v} / is sent to {v}",
    "to {v}",
)
PAID = _field("paid is_paid", truth, "{has|has not} been paid / is {paid|unpaid}", "{paid|unpaid}", kind="boolean")
CURRENCY = _choice("currency", "USD EUR GBP JPY", "is billed in {v} / was paid in {v}")
ITEMS = _field(
    "quantity items qty count", integer(1, 99), "covers {v} items / contains {v} pieces", "{v} items", kind="integer"
)

TRIP = _field("flight flight_number train flightNumber trip", _CODE, about="number of the flight")
ORIGIN = _field(
    "from origin departure departure_city",
    _CITY,
    "leaves from {v} / departs from {v} / starts in {v} / goes from {v}",
    "from {v}",
)
GOAL = _field(
    "to destination arrival arrival_city", _CITY, "goes to {v} / flies to {v} / arrives in {v} / ends in {v}", "to {v}"
)
GATE = _field("gate platform track", _CODE, "leaves from gate {v} / boards at gate {v}", "gate {v}")
PASSENGER = _field("passenger traveller name", _PERSON, "is booked for {v} / carries {v}", "for {v}")
DELAY = _field(
    "delay delay_minutes late_by",
    integer(1, 240),
    "is {v} minutes late / is delayed by {v} minutes",
    "{v} minutes late",
    kind="integer",
)

DISH = _field("dish recipe name meal", strings(lambda draw: f"{draw.coined()} {draw.of(*_MEAL)}"), about="the dish")
INGREDIENTS = _field(
    "ingredients needs contains shopping_list",
    some(lambda draw: draw.loosely(FOODS), 5),
    "needs {v} / is made with {v} / contains {v} / calls for {v}",
    "with {v}",
    "what goes in",
    "strings",
)
SERVES = _field(
    "servings serves portions",
    integer(1, 12),
    "serves {v} / makes {v} portions / is enough for {v} people",
    "serves {v}",
    kind="integer",
)
MINUTES = _field(
    "minutes cooking_time duration time_minutes",
    integer(5, 180),
    "takes {v} minutes / is ready in {v} minutes",
    "{v} minutes",
    kind="integer",
)
VEGAN = _field("vegan vegetarian", truth, "{is|is not} vegan / is {vegan|not vegan}", kind="boolean")

PET = _field("name pet animal_name pet_name", lambda draw: text(draw.coined(syllables=(1, 2))), about="the pet's name")
SPECIES = _choice(
    "species animal kind type", "dog cat horse rabbit parrot", "is a {v}", "a {v} / the {v}", "what animal it is"
)
OWNER = _field("owner keeper human", _PERSON, "belongs to {v} / lives with {v}", about="who owns it")
VACCINATED = _field(
    "vaccinated is_vaccinated", truth, "{is|is not} vaccinated / {has|has not} been vaccinated", kind="boolean"
)

SUBJECTS = (
    Subject(
        "person",
        ("She", "He", "They"),
        NAME,
        (
            AGE,
            CITY,
            COUNTRY,
            JOB,
            EMPLOYER,
            EMAIL,
            PHONE,
            MARRIED,
            STUDENT,
            HEIGHT,
            SALARY,
            HOBBIES,
            SPOKEN,
            BORN,
            BIRTHDAY,
        ),
    ),
    Subject(
        "product", ("It",), PRODUCT, (PRICE, STOCK, QUANTITY, COLOR, SIZE, BRAND, RATING, WEIGHT, WARRANTY, TAGS, SKU)
    ),
    Subject(
        "event", ("It",), EVENT, (DATE, ISO_DATE, TIME, VENUE, EVENT_CITY, HOST, GUESTS, INVITED, ONLINE, FREE, PRICE)
    ),
    Subject("book", ("It",), BOOK, (AUTHOR, YEAR, PAGES, GENRE, PUBLISHER, RATING, TAGS, PRICE)),
    Subject("company", ("It", "The company"), COMPANY, (FOUNDED, STAFF, CEO, SEAT, REVENUE, WEBSITE, EMAIL, PHONE)),
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
