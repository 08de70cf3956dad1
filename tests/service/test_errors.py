"""One table of errors, two shapes."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

import engine.errors
import service.errors
from engine import EngineError
from grammar.errors import GrammarError, UnsupportedConstraint
from schemas.errors import OpenAIError, TgiError
from schemas.gemini import GeminiError
from schemas.messages import AnthropicError
from schemas.ollama import OllamaError
from service.errors import TABLE, Family, InvalidBody, Overloaded, ServiceError, problem, row_of


def every_class() -> list[type[Exception]]:
    found: list[type[Exception]] = []
    for module in (service.errors, engine.errors):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ServiceError | EngineError | GrammarError):
                found.append(value)
    return found


@pytest.mark.parametrize("kind", every_class())
@pytest.mark.parametrize("family", list(Family))
def test_every_error_has_a_shape_and_a_status(kind: type[Exception], family: Family) -> None:
    told = problem(kind("it failed"), family)
    shapes: dict[Family, type[BaseModel]] = {
        Family.OPENAI: OpenAIError,
        Family.TGI: TgiError,
        Family.ANTHROPIC: AnthropicError,
        Family.OLLAMA: OllamaError,
        Family.GEMINI: GeminiError,
    }
    model = shapes[family]
    model.model_validate(told.body)
    assert 400 <= told.status < 600


def test_every_class_with_a_code_has_its_own_row() -> None:
    missing = [kind for kind in every_class() if kind not in TABLE and kind not in {ServiceError, EngineError}]
    names = {kind.__name__ for kind in missing}
    assert names <= {"InternalError", "UnknownGrammar"}  # ours alone: a 500 like any other


def test_a_constraint_is_named_by_pointer_and_keyword() -> None:
    error = UnsupportedConstraint("`not` over objects", pointer="/properties/a", keyword="not")
    detail = problem(error, Family.OPENAI).body["error"]
    assert detail["code"] == "unsupported_constraint"
    assert detail["formwork"] == {"pointer": "/properties/a", "keyword": "not", "reason": "`not` over objects"}
    assert "/properties/a" in detail["message"]
    assert "'not'" in detail["message"]


def test_who_may_retry_is_told_when() -> None:
    told = problem(Overloaded("full", retry_after_s=7.2), Family.OPENAI)
    assert (told.status, told.headers["retry-after"], told.headers["x-should-retry"]) == (503, "8", "true")
    assert problem(Overloaded("full"), Family.TGI).status == 429
    assert problem(RuntimeError("x"), Family.OPENAI).headers == {"x-should-retry": "false"}


def test_an_unknown_error_tells_nothing_of_itself() -> None:
    told = problem(RuntimeError("a secret path"), Family.OPENAI)
    assert told.status == 500
    assert "secret" not in str(told.body)


def test_a_subclass_takes_the_nearest_row() -> None:
    class Odd(InvalidBody):
        pass

    assert row_of(Odd("x")) is TABLE[InvalidBody]
