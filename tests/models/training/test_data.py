"""The made examples: seeded, right by construction, and held-out words never seen in training."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable

import jsonschema
import pytest

from models.training.batches import prompt_text
from models.training.data import Example, held_out_extractions, held_out_turns, training_examples
from models.training.model import load_tokenizer
from models.training.values import city, company, email, person_name, product, title
from models.training.words import Draw, is_held_out


def training(count: int, seed: int = 3, progress: float = 1.0) -> list[Example]:
    return list(itertools.islice(training_examples(seed, progress), count))


def test_the_same_seed_makes_the_same_examples() -> None:
    assert training(200) == training(200)
    assert training(200) != training(200, seed=4)
    assert held_out_extractions(50) == held_out_extractions(50)


def test_every_answer_validates_against_the_schema_it_was_asked_for() -> None:
    asked = [*training(800), *held_out_extractions(200), *held_out_turns(20)]
    for example in asked:
        if example.schema is not None:
            jsonschema.Draft202012Validator(example.schema).validate(json.loads(example.answer))


def test_answers_are_spelled_as_the_service_spells_json() -> None:
    for example in held_out_extractions(200):
        parsed = json.loads(example.answer, parse_float=lambda digits: f"<{digits}>")
        respelled = re.sub(r'"<([0-9.]+)>"', r"\1", json.dumps(parsed, ensure_ascii=False))
        assert example.answer == respelled


def test_answers_follow_the_schemas_property_order() -> None:
    for example in training(300):
        if example.schema is not None and "properties" in example.schema:
            order = list(example.schema["properties"])
            given = list(json.loads(example.answer))
            assert given == [key for key in order if key in given]


@pytest.mark.parametrize("make", [person_name, city, company, product, title, email])
def test_entity_words_of_the_two_sides_are_disjoint(make: Callable[[Draw], str]) -> None:
    sides = {}
    for held_out in (False, True):
        draw = Draw(random.Random(5), held_out)
        coined = {draw.coined() for _ in range(300)} | {draw.coined(capital=False) for _ in range(300)}
        made = {make(draw) for _ in range(300)}
        sides[held_out] = coined
        assert made
        assert all(is_held_out(word) == held_out for word in coined if len(word) > 2)
    assert not {word.lower() for word in sides[True] if len(word) > 2} & {word.lower() for word in sides[False]}


def test_no_held_out_person_is_a_training_person() -> None:
    people = [{person_name(Draw(random.Random(seed), side)) for seed in range(500)} for side in (True, False)]
    assert not people[0] & people[1]


def test_extracted_strings_stand_in_the_prompt() -> None:
    """It must copy, not remember: whatever is asked as free text is in the text, dates that change spelling aside."""
    tokenizer = load_tokenizer()
    for example in held_out_extractions(150):
        assert example.schema is not None
        prompt = prompt_text(tokenizer, example)
        for key, kind in example.schema.get("properties", {}).items():
            value = json.loads(example.answer).get(key)
            if kind == {"type": "string"} and isinstance(value, str):
                assert value in prompt


def test_training_starts_narrow_and_widens() -> None:
    def widest(progress: float) -> int:
        schemas = [example.schema for example in training(400, progress=progress) if example.kind == "extraction"]
        return max(len(schema["properties"]) for schema in schemas if schema and "properties" in schema)

    assert widest(0.0) <= 3 < widest(1.0)
