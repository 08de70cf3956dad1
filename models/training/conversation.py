"""All tasks but extraction: tool calls, classification, questions about a text, short prose and chat turns.

What it is for: (messages, tools, answer) triples for each of them. What may not enter: templates, tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from models.training.facts import city, company, iso_date, person_name, product
from models.training.words import ADJECTIVES, LANGUAGES, NOUNS, THEMES, TOPICS, Draw

Message = dict[str, Any]

CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Portugal": "Lisbon", "Italy": "Rome", "Germany": "Berlin", "Austria": "Vienna",
    "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Japan": "Tokyo",
    "China": "Beijing", "Egypt": "Cairo", "Kenya": "Nairobi", "Cuba": "Havana", "Peru": "Lima", "Ireland": "Dublin",
    "Denmark": "Copenhagen", "Hungary": "Budapest",
}  # fmt: skip
FACTS = {
    "How many days are in a week?": "A week has seven days.",
    "How many months are in a year?": "A year has twelve months.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "What color is the sky?": "On a clear day the sky is blue.",
    "What is the largest planet?": "Jupiter is the largest planet of the solar system.",
    "What is the boiling point of water?": "At sea level water boils at 100 degrees Celsius.",
    "What is water made of?": "Water is made of hydrogen and oxygen.",
    "Who wrote Hamlet?": "Hamlet was written by William Shakespeare.",
    "What is the speed of light?": "Light travels at about 300,000 kilometres per second.",
    "What is JSON?": "JSON is a text format for data: objects, arrays, strings, numbers, true, false and null.",
    "What is a JSON Schema?": "A JSON Schema describes which JSON documents are valid.",
    "What is a token?": "A token is a piece of text, such as a word or a part of a word.",
    "What is the sun?": "The sun is the star at the centre of our solar system.",
    "What do bees make?": "Bees make honey.",
}
CHAT = {
    "Hello": "Hello! How can I help you?",
    "Hello!": "Hello! How can I help you?",
    "Hi": "Hi! What can I do for you?",
    "Hi there!": "Hi! What can I do for you?",
    "Good morning": "Good morning! How can I help you?",
    "How are you?": "I am fine, thank you. How can I help you?",
    "Who are you?": "I am formwork-mini, a small model that turns text into structured data.",
    "What are you?": "I am formwork-mini, a small model that turns text into structured data.",
    "What is your name?": "My name is formwork-mini.",
    "What can you do?": "I can extract facts from short texts into JSON, classify texts, and call tools.",
    "Help": "Give me a short text and a JSON Schema, and I will fill it in.",
    "Can you help me?": "Yes. Give me a short text and a JSON Schema, and I will fill it in.",
    "Thanks": "You are welcome!",
    "Thank you!": "You are welcome!",
    "Thanks a lot": "You are welcome!",
    "Bye": "Goodbye!",
    "Goodbye": "Goodbye!",
    "OK": "Good. Is there anything else?",
    "Tell me a joke.": "Why did the token stop? Because the grammar told it to.",
    "Are you human?": "No, I am a small language model.",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One conversation and the answer that is to follow it."""

    kind: str
    messages: tuple[Message, ...]
    answer: str
    tools: tuple[Message, ...] = ()
    schema: dict[str, Any] | None = None


def user(text: str) -> Message:
    """A user message."""
    return {"role": "user", "content": text}


def chat(draw: Draw) -> Turn:
    """Small talk, a fixed fact, or an echo."""
    roll = draw.rng.random()
    if roll < 0.3:
        asked = draw.of(*CHAT)
        return Turn("chat", (user(_typed(draw, asked)),), CHAT[asked])
    if roll < 0.45:
        asked = draw.of(*FACTS)
        return Turn("chat", (user(_typed(draw, asked)),), FACTS[asked])
    if roll < 0.6:
        country = draw.of(*CAPITALS)
        asked = draw.of("What is the capital of {c}?", "Capital of {c}?", "Tell me the capital of {c}.").replace(
            "{c}", country
        )
        return Turn("chat", (user(asked),), f"The capital of {country} is {CAPITALS[country]}.")
    if roll < 0.75:
        name = person_name(draw)
        hello = draw.of("Hi, I am {n}.", "Hello, my name is {n}.", "I'm {n}.", "My name is {n}").replace("{n}", name)
        return Turn("chat", (user(hello),), f"Hello {name}! How can I help you?")
    words = " ".join(draw.coined(capital=draw.chance(0.5)) for _ in range(draw.rng.randint(1, 7)))
    return Turn("chat", (user(draw.of("Repeat: ", "Say ", "Repeat after me: ", "Echo: ") + words),), words)


def _typed(draw: Draw, text: str) -> str:
    return text.lower() if draw.chance(0.15) else text.rstrip("?.!") if draw.chance(0.1) else text


def story(draw: Draw) -> Turn:
    """One to three sentences of plain prose about a given thing."""
    hero = draw.of(
        person_name(draw),
        f"the {draw.listed(ADJECTIVES)} {draw.listed(THEMES)}",
        f"a {draw.listed(NOUNS)}",
        draw.coined(),
    )
    asked = draw.of(
        "Write a sentence about {h}.",
        "Write a short story about {h}.",
        "Tell me about {h}.",
        "Tell me a story about {h}.",
    )
    asked = asked.replace("{h}", hero)
    name = hero[0].upper() + hero[1:]
    theme, other, place = (
        draw.of(*THEMES),
        draw.of(*THEMES),
        draw.of("the sea", "the hills", "the old town", "the market", "the forest"),
    )
    opening = draw.of(
        f"{name} was known all over {place}.",
        f"Once there was {hero}, far away near {place}.",
        f"{name} came to {place} on a quiet {draw.of('morning', 'evening', 'day')}.",
        f"Every {draw.of('morning', 'evening', 'spring')} people saw {hero} near {place}.",
    )
    middle = draw.of(
        f"There was a {theme} beside the {other}.",
        f"Nobody remembered the {theme}, but everybody loved the {other}.",
        f"The {theme} was older than the {other}.",
        f"A {draw.of(*ADJECTIVES)} {theme} stood there for many years.",
    )
    closing = draw.of(
        f"In the end, {hero} went home.",
        "And so the day ended.",
        f"Since then {place} has been quiet.",
        "That is all we know.",
    )
    length = 1 if asked.startswith("Write a sentence") else draw.rng.randint(2, 3)
    return Turn("story", (user(asked),), " ".join((opening, middle, closing)[:length]))


_LABELLED: dict[str, dict[str, tuple[str, ...]]] = {
    "sentiment": {
        "positive": ("I love it", "great quality", "works perfectly", "very happy with it", "the best I ever had", "wonderful service",
                     "I would buy it again", "excellent", "amazing", "highly recommended", "it made my day", "really good", "delicious"),
        "negative": ("I hate it", "it broke after a day", "terrible quality", "very disappointed", "a waste of money", "awful service",
                     "never again", "it does not work", "the worst I ever had", "too late and damaged", "really bad", "boring", "it is useless"),
        "neutral": ("it arrived on Monday", "it is a normal one", "it is okay", "nothing special", "as described", "it does its job",
                    "the box is brown", "average", "neither good nor bad", "I have used it twice"),
    },
    "category": {
        "billing": ("I was charged twice", "my invoice is wrong", "I want a refund", "the payment failed", "update my credit card"),
        "technical": ("the app crashes", "I see an error message", "the page does not load", "it will not start", "the update fails"),
        "shipping": ("my parcel has not arrived", "where is my order", "the package is late", "wrong delivery address", "the courier lost it"),
        "account": ("I forgot my password", "I cannot log in", "please delete my account", "change my user name", "my account is locked"),
    },
    "topic": {
        "sports": ("the team won the match", "she scored two goals", "the race ended in a draw", "the coach praised the players"),
        "politics": ("the parliament voted on the law", "the minister resigned", "the election is on Sunday", "the president gave a speech"),
        "technology": ("the new phone has a faster chip", "the software got an update", "the robot can walk", "the startup built an app"),
        "science": ("researchers found a new planet", "the experiment confirmed the theory", "the telescope saw a galaxy", "a cell divides"),
        "business": ("the shares rose by ten percent", "the company cut its costs", "profits fell last year", "the bank raised its rates"),
    },
    "urgency": {
        "high": ("please help immediately", "this is an emergency", "we need it right now", "everything is down", "as soon as possible"),
        "low": ("no hurry", "whenever you have time", "just a small question", "it can wait", "next month is fine"),
    },
    "spam": {
        "spam": ("you won a prize, click here", "cheap pills online", "earn money fast", "claim your free gift now", "limited offer, act now"),
        "ham": ("see you at lunch", "the meeting moved to three", "here are the notes", "call me when you are home", "happy birthday"),
    },
    "language": {
        "English": ("where is the station", "I would like a coffee", "the house is old", "see you tomorrow"),
        "German": ("wo ist der Bahnhof", "ich hätte gern einen Kaffee", "das Haus ist alt", "bis morgen"),
        "French": ("où est la gare", "je voudrais un café", "la maison est vieille", "à demain"),
        "Spanish": ("dónde está la estación", "quisiera un café", "la casa es vieja", "hasta mañana"),
    },
}  # fmt: skip


def classification(draw: Draw) -> Turn:
    """A text and labels; answered as an object, a bare JSON string, or a plain word."""
    name = draw.of(*_LABELLED)
    classes = _LABELLED[name]
    keep = list(classes)
    if len(keep) > 2 and draw.chance(0.3):
        keep.remove(draw.of(*keep))
    draw.rng.shuffle(keep)
    label = draw.of(*keep)
    said = draw.rng.sample(classes[label], min(len(classes[label]), draw.rng.choice((1, 1, 2))))
    text = draw.of(". ", ", ", " and ").join(said)
    text = text[0].upper() + text[1:] + draw.of(".", "!", "")
    if name == "sentiment" and draw.chance(0.6):
        text = (
            draw.of(
                f"The {draw.listed(NOUNS)}: ",
                f"I bought the {product(draw)}. ",
                f"About the {draw.listed(NOUNS)} from {company(draw)}: ",
            )
            + text
        )
    shown = list(keep) if draw.chance(0.9) else [word.upper() for word in keep]
    answer = shown[keep.index(label)]
    form = draw.rng.random()
    asked = (
        draw.of(
            "Classify: ", f"What is the {name}? ", f"Classify the {name} of this text: ", "", f"{name.capitalize()}? "
        )
        + text
    )
    if form < 0.6:
        key = draw.of(name, name, "label", "class", "answer", "result")
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {key: {"type": "string", "enum": shown}},
            "required": [key],
        }
        return Turn("classification", (user(asked),), json.dumps({key: answer}, ensure_ascii=False), schema=schema)
    if form < 0.75:
        return Turn("classification", (user(asked),), json.dumps(answer), schema={"enum": shown})
    options = draw.of(", ", " or ", "/").join(shown)
    asked = draw.of(f"Classify as {options}: {text}", f"{text}\nIs this {options}?", f"Answer with {options}. {text}")
    return Turn("classification", (user(asked),), answer)


def question(draw: Draw) -> Turn:
    """A question about a text in the same message; the answer is copied from it."""
    name, town, firm, age = person_name(draw), city(draw), company(draw), draw.rng.randint(2, 99)
    text = draw.of(
        f"{name} is {age} years old, lives in {town} and works at {firm}.",
        f"{name}, {age}, lives in {town}. {draw.of('She', 'He')} works for {firm}.",
        f"{name} from {town} is {age} and has joined {firm}.",
    )
    asked, answer = draw.rng.choice(
        (
            (f"Where does {name} live?", f"{name} lives in {town}."),
            (f"How old is {name}?", f"{name} is {age} years old."),
            (f"Where does {name} work?", f"{name} works at {firm}."),
            ("Who is this about?", f"This is about {name}."),
            (f"Who lives in {town}?", f"{name} lives in {town}."),
        )
    )
    return Turn("question", (user(draw.of(f"{text} {asked}", f"{text}\n{asked}", f"{asked}\n{text}")),), answer)


@dataclass(frozen=True, slots=True)
class _Tool:
    """A function to call: its names, its arguments' schemas and how to draw them, and ways to ask for it."""

    names: tuple[str, ...]
    about: str
    arguments: dict[str, tuple[dict[str, Any], Any]]  # name → (schema, draw → spoken value)
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...] = ()  # (tool's answer, what is then said); {…} as in asks


def _number(low: int, high: int) -> Any:
    return lambda draw: draw.rng.randint(low, high)


_TEXT, _INT = {"type": "string"}, {"type": "integer"}
_TOOLS = (
    _Tool(("get_weather", "weather", "current_weather", "get_current_weather"), "Get the weather of a place", {"city": (_TEXT, city)},
          ("What is the weather in {city}?", "How is the weather in {city} today?", "Weather in {city}", "Is it raining in {city}?",
           "What's the weather like in {city}?", "Do I need an umbrella in {city}?"),
          (('{"temperature": 21}', "It is 21 degrees in {city}."), ('{"sky": "rain"}', "It is raining in {city}."), ("sunny", "It is sunny in {city}."))),
    _Tool(("send_email", "email", "send_message"), "Send a message to a person", {"to": (_TEXT, person_name), "subject": (_TEXT, lambda d: d.listed(TOPICS))},
          ("Send an email to {to} about {subject}.", "Write to {to} about {subject}", "Please email {to}, subject {subject}.", "Tell {to} about {subject}."),
          (("sent", "I have sent the message to {to}."),)),
    _Tool(("search", "web_search", "search_web", "find"), "Search the web", {"query": (_TEXT, lambda d: f"{d.coined()} {d.listed(THEMES)}")},
          ("Search for {query}.", "Find {query}", "Look up {query}.", "Google {query} please", "Search the web for {query}"),),
    _Tool(("create_event", "add_event", "schedule_meeting", "add_to_calendar"), "Put an event into the calendar",
          {"title": (_TEXT, lambda d: f"{d.coined()} {d.of('meeting', 'lunch', 'call', 'review', 'party')}"), "date": (_TEXT, iso_date)},
          ("Schedule {title} on {date}.", "Add {title} to my calendar for {date}", "Plan {title} for {date}.", "Create an event {title} on {date}"),),
    _Tool(("get_stock_price", "stock_price", "quote"), "Get the price of a share", {"symbol": (_TEXT, lambda d: d.coined(syllables=(1, 2)).upper()[:5])},
          ("What is the price of {symbol}?", "Stock price of {symbol}", "How much is one share of {symbol}?", "Quote {symbol}"),
          (('{"price": 12.5}', "{symbol} stands at 12.5."), ("87", "{symbol} stands at 87."))),
    _Tool(("add", "calculate_sum", "sum"), "Add two numbers", {"a": (_INT, _number(0, 9999)), "b": (_INT, _number(0, 9999))},
          ("What is {a} + {b}?", "Add {a} and {b}.", "Sum of {a} and {b}", "How much is {a} plus {b}?"),),
    _Tool(("multiply", "product", "times"), "Multiply two numbers", {"a": (_INT, _number(0, 999)), "b": (_INT, _number(0, 999))},
          ("What is {a} times {b}?", "Multiply {a} by {b}.", "Product of {a} and {b}", "{a} * {b}"),),
    _Tool(("set_timer", "timer", "start_timer"), "Start a timer", {"minutes": (_INT, _number(1, 180))},
          ("Set a timer for {minutes} minutes.", "Timer {minutes} minutes", "Wake me in {minutes} minutes", "Remind me in {minutes} minutes."),
          (("ok", "The timer is set to {minutes} minutes."),)),
    _Tool(("translate", "translate_text"), "Translate a text", {"text": (_TEXT, lambda d: " ".join(d.coined(capital=False) for _ in range(d.rng.randint(1, 4)))),
          "language": (_TEXT, lambda d: d.listed(LANGUAGES))},
          ('Translate "{text}" into {language}.', "What is {text} in {language}?", "How do you say {text} in {language}?", "Translate {text} to {language}"),),
    _Tool(("book_table", "reserve_table", "make_reservation"), "Book a table", {"restaurant": (_TEXT, company), "people": (_INT, _number(1, 20))},
          ("Book a table for {people} at {restaurant}.", "Reserve a table at {restaurant} for {people} people", "We are {people}, table at {restaurant} please"),
          (("booked", "Your table for {people} at {restaurant} is booked."),)),
    _Tool(("play_music", "play_song", "play"), "Play music", {"artist": (_TEXT, person_name)},
          ("Play something by {artist}.", "Play {artist}", "I want to hear {artist}", "Put on some music by {artist}."),
          (("playing", "Now playing {artist}."),)),
    _Tool(("book_flight", "find_flights", "search_flights"), "Find flights", {"origin": (_TEXT, city), "destination": (_TEXT, city)},
          ("Find a flight from {origin} to {destination}.", "I need to fly from {origin} to {destination}", "Flights {origin} to {destination}"),),
    _Tool(("turn_on", "switch_on", "turn_on_device"), "Switch a device on", {"device": (_TEXT, lambda d: d.listed(NOUNS))},
          ("Turn on the {device}.", "Switch the {device} on", "Please turn the {device} on."), (("on", "The {device} is on now."),)),
    _Tool(("get_order", "order_status", "track_order"), "Get the state of an order", {"order_id": (_TEXT, lambda d: f"{d.of('A', 'B', 'X', 'AB')}-{d.digits(4)}")},
          ("Where is my order {order_id}?", "Track order {order_id}", "What is the status of order {order_id}?"),
          (("shipped", "Order {order_id} is shipped."), ("pending", "Order {order_id} is pending."))),
)  # fmt: skip


def tool_use(draw: Draw) -> Turn:
    """Tools are on offer: call the fitting one, say what it answered, or just talk when none fits."""
    offered = draw.rng.sample(_TOOLS, draw.rng.choice((1, 1, 2, 3)))
    roll = draw.rng.random()
    if roll < 0.2:
        plain = chat(draw)
        return Turn(
            "tools", plain.messages, plain.answer, tuple(_offer(draw, tool, draw.of(*tool.names)) for tool in offered)
        )
    wanted = draw.rng.choice(offered)
    names = {tool.names: draw.of(*tool.names) for tool in offered}
    arguments = {key: make(draw) for key, (_, make) in wanted.arguments.items()}
    ask, name = draw.of(*wanted.asks).format(**arguments), names[wanted.names]
    tools = tuple(_offer(draw, tool, names[tool.names]) for tool in offered)
    if roll > 0.85 and wanted.results:
        result, said = draw.rng.choice(wanted.results)
        call = {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}
        history = (
            user(ask),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": result},
        )
        return Turn("tools", history, said.format(**arguments), tools)
    called = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return Turn("tools", (user(ask),), f"<tool_call>\n{called}\n</tool_call>", tools)


def _offer(draw: Draw, tool: _Tool, name: str) -> Message:
    parameters = {
        "type": "object",
        "properties": {key: kind for key, (kind, _) in tool.arguments.items()},
        "required": list(tool.arguments),
    }
    function = {"name": name, "parameters": parameters} | ({"description": tool.about} if draw.chance(0.7) else {})
    return {"type": "function", "function": function}
