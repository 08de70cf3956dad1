"""Prompts as a stranger would write them, by hand and not by the generator.

What it is for: checking that the model's skill is more than the generator's habits. What may not enter: anything that
training draws from; nothing in training reads this file.
"""

from __future__ import annotations

import json
from typing import Any

from models.training.data import Example

_KINDS: dict[str, dict[str, Any]] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "n": {"type": "number"},
    "b": {"type": "boolean"},
    "[s]": {"type": "array", "items": {"type": "string"}},
}

# (prompt, keys with kinds, answer values in the same order)
_PROMPTS: tuple[tuple[str, str, list[Any]], ...] = (
    ("Maria Silva, 34, lives in Porto.", "name:s age:i city:s", ["Maria Silva", 34, "Porto"]),
    ("Extract the person: Maria Silva, 34, lives in Porto.", "name:s age:i city:s", ["Maria Silva", 34, "Porto"]),
    ("Extract the person from: Ada Lovelace, 36, from London", "name:s age:i city:s", ["Ada Lovelace", 36, "London"]),
    ("John Smith is 45 years old and lives in Chicago.", "name:s age:i city:s", ["John Smith", 45, "Chicago"]),
    ("Alice is 30.", "name:s age:i", ["Alice", 30]),
    (
        "Bob Miller, a plumber from Dallas, is 52.",
        "person:s job:s town:s years:i",
        ["Bob Miller", "plumber", "Dallas", 52],
    ),
    ("My name is Priya Nair, I am 27 and I live in Bengaluru.", "name:s age:i city:s", ["Priya Nair", 27, "Bengaluru"]),
    ("Contact Jane Doe at jane.doe@example.com.", "name:s email:s", ["Jane Doe", "jane.doe@example.com"]),
    (
        "Write to Tim O'Hara, tim@ohara.ie, phone 555-0199.",
        "name:s email:s phone:s",
        ["Tim O'Hara", "tim@ohara.ie", "555-0199"],
    ),
    ("The blue kettle costs $24.99 and is in stock.", "product:s price:n in_stock:b", ["blue kettle", 24.99, True]),
    (
        "Extract the product: Acme Drill X200, 129.50 EUR, out of stock",
        "name:s price:n in_stock:b",
        ["Acme Drill X200", 129.5, False],
    ),
    ("The desk lamp is sold out. It costs 40 dollars.", "item:s price:n available:b", ["desk lamp", 40, False]),
    (
        "Mirror of Dust was written by Helen Varga and published in 1987.",
        "title:s author:s year:i",
        ["Mirror of Dust", "Helen Varga", 1987],
    ),
    ("The meeting with Karl Brandt is on 2026-05-12 at 09:30.", "date:s time:s", ["2026-05-12", "09:30"]),
    (
        "Jazz Night takes place on 2025-11-02 in Vienna.",
        "event:s date:s city:s",
        ["Jazz Night", "2025-11-02", "Vienna"],
    ),
    (
        "Initech was founded in 1998, has 250 employees and is based in Austin.",
        "company:s founded:i employees:i city:s",
        ["Initech", 1998, 250, "Austin"],
    ),
    (
        "Order A-1043 was placed by Sam Lee and comes to $88.10.",
        "order_id:s customer:s total:n",
        ["A-1043", "Sam Lee", 88.1],
    ),
    ("Flight LH-4412 goes from Munich to Lisbon.", "flight:s from:s to:s", ["LH-4412", "Munich", "Lisbon"]),
    ("Name: Oskar Lind\nAge: 61\nCity: Uppsala", "name:s age:i city:s", ["Oskar Lind", 61, "Uppsala"]),
    ("Rex is a 4-year-old dog. He belongs to Nina Patel.", "name:s age:i owner:s", ["Rex", 4, "Nina Patel"]),
    (
        "The soup needs carrots, onions and garlic and serves 4.",
        "ingredients:[s] servings:i",
        [["carrots", "onions", "garlic"], 4],
    ),
    ("This post is tagged python, json and web.", "tags:[s]", [["python", "json", "web"]]),
    (
        "Elena speaks English and Greek and works as a pilot.",
        "name:s languages:[s] job:s",
        ["Elena", ["English", "Greek"], "pilot"],
    ),
    ("Tom Baker is not married and works for Globex.", "name:s married:b company:s", ["Tom Baker", False, "Globex"]),
    (
        "Please ship 3 chairs to Laura Chen, 12 Elm Street.",
        "customer:s quantity:i address:s",
        ["Laura Chen", 3, "12 Elm Street"],
    ),
)


def handwritten_examples() -> list[Example]:
    """The hand-written prompts as examples, without a system prompt."""
    return [_example(prompt, keys.split(), values) for prompt, keys, values in _PROMPTS]


def _example(prompt: str, keys: list[str], values: list[Any]) -> Example:
    properties = {key.split(":")[0]: _KINDS[key.split(":")[1]] for key in keys}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    answer = json.dumps(dict(zip(properties, values, strict=True)), ensure_ascii=False)
    return Example("handwritten", ({"role": "user", "content": prompt},), answer, schema=schema)
