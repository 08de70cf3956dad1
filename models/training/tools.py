"""Functions that the model may call: names, arguments, and ways to ask for them.

What it is for: one table of tools from which tool-calling conversations are made. What may not enter: conversations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.training.values import city, company, iso_date, person_name
from models.training.words import LANGUAGES, NOUNS, THEMES, TOPICS


@dataclass(frozen=True, slots=True)
class Tool:
    """A function to call: its names, its arguments' schemas and how to draw them, and ways to ask for it."""

    names: tuple[str, ...]
    about: str
    arguments: dict[str, tuple[dict[str, Any], Any]]  # name → (schema, draw → spoken value)
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...] = ()  # (tool's answer, what is then said); {…} as in asks


def _number(low: int, high: int) -> Any:
    return lambda draw: draw.rng.randint(low, high)


_TEXT, _INT = {"type": "string"}, {"type": "integer"}
TOOLS = (
    Tool(
        ("get_weather", "weather", "current_weather", "get_current_weather"),
        "Get the weather of a place",
        {"city": (_TEXT, city)},
        (
            "What is the weather in {city}?",
            "How is the weather in {city} today?",
            "Weather in {city}",
            "Is it raining in {city}?",
            "What's the weather like in {city}?",
            "Do I need an umbrella in {city}?",
        ),
        (
            ('{"temperature": 21}', "It is 21 degrees in {city}."),
            ('{"sky": "rain"}', "It is raining in {city}."),
            ("sunny", "It is sunny in {city}."),
        ),
    ),
    Tool(
        ("send_email", "email", "send_message"),
        "Send a message to a person",
        {"to": (_TEXT, person_name), "subject": (_TEXT, lambda d: d.loosely(TOPICS))},
        (
            "Send an email to {to} about {subject}.",
            "Write to {to} about {subject}",
            "Please email {to}, subject {subject}.",
            "Tell {to} about {subject}.",
        ),
        (("sent", "I have sent the message to {to}."),),
    ),
    Tool(
        ("search", "web_search", "search_web", "find"),
        "Search the web",
        {"query": (_TEXT, lambda d: f"{d.coined()} {d.listed(THEMES)}")},
        (
            "Search for {query}.",
            "Find {query}",
            "Look up {query}.",
            "Google {query} please",
            "Search the web for {query}",
        ),
    ),
    Tool(
        ("create_event", "add_event", "schedule_meeting", "add_to_calendar"),
        "Put an event into the calendar",
        {
            "title": (_TEXT, lambda d: f"{d.coined()} {d.of('meeting', 'lunch', 'call', 'review', 'party')}"),
            "date": (_TEXT, iso_date),
        },
        (
            "Schedule {title} on {date}.",
            "Add {title} to my calendar for {date}",
            "Plan {title} for {date}.",
            "Create an event {title} on {date}",
        ),
    ),
    Tool(
        ("get_stock_price", "stock_price", "quote"),
        "Get the price of a share",
        {"symbol": (_TEXT, lambda d: d.coined(syllables=(1, 2)).upper()[:5])},
        (
            "What is the price of {symbol}?",
            "Stock price of {symbol}",
            "How much is one share of {symbol}?",
            "Quote {symbol}",
        ),
        (('{"price": 12.5}', "{symbol} stands at 12.5."), ("87", "{symbol} stands at 87.")),
    ),
    Tool(
        ("add", "calculate_sum", "sum"),
        "Add two numbers",
        {"a": (_INT, _number(0, 9999)), "b": (_INT, _number(0, 9999))},
        ("What is {a} + {b}?", "Add {a} and {b}.", "Sum of {a} and {b}", "How much is {a} plus {b}?"),
    ),
    Tool(
        ("multiply", "product", "times"),
        "Multiply two numbers",
        {"a": (_INT, _number(0, 999)), "b": (_INT, _number(0, 999))},
        ("What is {a} times {b}?", "Multiply {a} by {b}.", "Product of {a} and {b}", "{a} * {b}"),
    ),
    Tool(
        ("set_timer", "timer", "start_timer"),
        "Start a timer",
        {"minutes": (_INT, _number(1, 180))},
        (
            "Set a timer for {minutes} minutes.",
            "Timer {minutes} minutes",
            "Wake me in {minutes} minutes",
            "Remind me in {minutes} minutes.",
        ),
        (("ok", "The timer is set to {minutes} minutes."),),
    ),
    Tool(
        ("translate", "translate_text"),
        "Translate a text",
        {
            "text": (_TEXT, lambda d: " ".join(d.coined(capital=False) for _ in range(d.rng.randint(1, 4)))),
            "language": (_TEXT, lambda d: d.loosely(LANGUAGES)),
        },
        (
            'Translate "{text}" into {language}.',
            "What is {text} in {language}?",
            "How do you say {text} in {language}?",
            "Translate {text} to {language}",
        ),
    ),
    Tool(
        ("book_table", "reserve_table", "make_reservation"),
        "Book a table",
        {"restaurant": (_TEXT, company), "people": (_INT, _number(1, 20))},
        (
            "Book a table for {people} at {restaurant}.",
            "Reserve a table at {restaurant} for {people} people",
            "We are {people}, table at {restaurant} please",
        ),
        (("booked", "Your table for {people} at {restaurant} is booked."),),
    ),
    Tool(
        ("play_music", "play_song", "play"),
        "Play music",
        {"artist": (_TEXT, person_name)},
        ("Play something by {artist}.", "Play {artist}", "I want to hear {artist}", "Put on some music by {artist}."),
        (("playing", "Now playing {artist}."),),
    ),
    Tool(
        ("book_flight", "find_flights", "search_flights"),
        "Find flights",
        {"origin": (_TEXT, city), "destination": (_TEXT, city)},
        (
            "Find a flight from {origin} to {destination}.",
            "I need to fly from {origin} to {destination}",
            "Flights {origin} to {destination}",
        ),
    ),
    Tool(
        ("turn_on", "switch_on", "turn_on_device"),
        "Switch a device on",
        {"device": (_TEXT, lambda d: d.loosely(NOUNS))},
        ("Turn on the {device}.", "Switch the {device} on", "Please turn the {device} on."),
        (("on", "The {device} is on now."),),
    ),
    Tool(
        ("get_order", "order_status", "track_order"),
        "Get the state of an order",
        {"order_id": (_TEXT, lambda d: f"{d.of('A', 'B', 'X', 'AB')}-{d.digits(4)}")},
        ("Where is my order {order_id}?", "Track order {order_id}", "What is the status of order {order_id}?"),
        (("shipped", "Order {order_id} is shipped."), ("pending", "Order {order_id} is pending.")),
    ),
)
