"""How answers are judged, and that the card says what was measured."""

from __future__ import annotations

import hashlib
import json

from models.training.evaluate import fields_right, leaves, validates
from models.training.handwritten import handwritten_examples
from models.training.model import FOLDER


def test_fields_are_the_leaves_by_pointer() -> None:
    value = {"a": 1, "b": {"c": "x"}, "d": ["p", "q"], "e": [{"f": None}, {"f": 2}]}
    assert dict(leaves(value)) == {"/a": 1, "/b/c": "x", "/d": ["p", "q"], "/e/0/f": None, "/e/1/f": 2}


def test_right_fields_are_counted_by_value() -> None:
    assert fields_right('{"a": 1.50, "b": "x", "c": true}', '{"a": 1.5, "b": "y", "c": true}') == (2, 3)


def test_a_truth_is_not_a_number_and_no_json_has_no_right_field() -> None:
    assert fields_right('{"a": true}', '{"a": 1}') == (0, 1)
    assert fields_right('{"a": 1}', '{"a": 1') == (0, 1)


def test_an_answer_validates_iff_it_parses_and_satisfies() -> None:
    schema = {"type": "object", "required": ["a"]}
    assert validates(schema, '{"a": 1}')
    assert not validates(schema, "{}")
    assert not validates(schema, '{"a": ')


def test_handwritten_answers_satisfy_their_schemas() -> None:
    assert all(validates(example.schema, example.answer) for example in handwritten_examples())


def test_the_card_says_what_was_measured() -> None:
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    card = (FOLDER / "README.md").read_text()
    for part in ("constrained", "unconstrained"):
        for share in figures[part].values():
            assert f"{100 * share:.1f} %" in card
    for share in [*list(figures["handwritten"].values())[1:], *list(figures["exact_answers"].values())[1:]]:
        assert f"{100 * share:.1f} %" in card


def test_the_figures_belong_to_the_weights_and_the_weights_are_small() -> None:
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    weights = (FOLDER / "model.safetensors").read_bytes()
    assert figures["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(weights) <= 20_000_000


def test_the_bar_is_met() -> None:
    figures = json.loads((FOLDER / "evaluation.json").read_text())
    assert figures["constrained"]["fields_right"] >= 0.9
    assert figures["constrained"]["valid"] == 1.0
