"""All tasks but extraction: tool calls, classification, questions about a text, short prose and chat turns.

What it is for: (messages, tools, answer) triples for each of them. What may not enter: templates, tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from models.training.labels import LABELLED
from models.training.tools import TOOLS, Tool
from models.training.values import city, code, company, person_name, product
from models.training.words import ADJECTIVES, NOUNS, THEMES, Draw

Message = dict[str, Any]

CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Ireland": "Dublin",
    "Denmark": "Copenhagen",
    "Hungary": "Budapest",
}
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
    return echo(draw)


def echo(draw: Draw) -> Turn:
    """Words, numbers and codes to be said again: copying and nothing else."""
    makes = (
        draw.coined,
        lambda: draw.coined(capital=False),
        lambda: draw.digits(draw.rng.randint(1, 6)),
        lambda: code(draw),
    )
    words = [draw.rng.choices(makes, (4, 4, 1, 1))[0]() for _ in range(draw.rng.randint(1, 9))]
    said = draw.of(" ", " ", ", ").join(words)
    return Turn("chat", (user(draw.of("Repeat: ", "Say ", "Repeat after me: ", "Echo: ") + said),), said)


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


def classification(draw: Draw) -> Turn:
    """A text and labels; answered as an object, a bare JSON string, or a plain word."""
    name = draw.of(*LABELLED)
    classes = LABELLED[name]
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


def tool_use(draw: Draw) -> Turn:
    """Tools are on offer: call the fitting one, say what it answered, or just talk when none fits."""
    offered = draw.rng.sample(TOOLS, draw.rng.choice((1, 1, 2, 3)))
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
    if draw.chance(0.08):
        other = {key: make(draw) for key, (_, make) in wanted.arguments.items()}
        second = draw.of(*wanted.asks).format(**other)
        both = draw.of(f"{ask} {second}", f"{ask} And also: {second}", f"{ask}\n{second}")
        return Turn("tools", (user(both),), f"{_call(name, arguments)}\n{_call(name, other)}", tools)
    return Turn("tools", (user(ask),), _call(name, arguments), tools)


def _call(name: str, arguments: dict[str, Any]) -> str:
    called = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{called}\n</tool_call>"


def _offer(draw: Draw, tool: Tool, name: str) -> Message:
    parameters = {
        "type": "object",
        "properties": {key: kind for key, (kind, _) in tool.arguments.items()},
        "required": list(tool.arguments),
    }
    function = {"name": name, "parameters": parameters} | ({"description": tool.about} if draw.chance(0.7) else {})
    return {"type": "function", "function": function}
