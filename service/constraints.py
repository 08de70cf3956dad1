"""What a request asks of its output, as one value with a content hash.

What it is for: every spelling of a constraint (OpenAI, TGI, vLLM, SGLang, llama.cpp, Formwork) becomes a `Constraint`;
everything behind works with that. What may not enter: compiling it, HTTP.

The idea: two requests with the same kind, source and options share one compiled plan. The source keeps the order of the
schema's properties, because the order of the output's properties comes from it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from grammar.errors import UnsupportedConstraint
from schemas.base import FormworkRequest, JsonSchema
from schemas.chat import (
    Constraints,
    GrammarFormat,
    JsonFormat,
    JsonObjectFormat,
    RegexFormat,
    ResponseFormat,
    SchemaFormat,
    StructuredOutputs,
    SubstringFormat,
    TextFormat,
)
from schemas.tgi import JsonGrammar, RegexGrammar, TgiGrammar
from service.body import strict_json
from service.errors import InvalidBody
from service.refusals import KEYWORD, asks_for_refusal, with_refusal


class ConstraintKind(StrEnum):
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    EBNF = "ebnf"
    STRUCTURAL_TAGS = "structural_tags"
    SUBSTRING = "substring"
    TOOLS = "tools"  # a whole message: reasoning, an answer or text, calls


_DATA = frozenset({"const", "enum", "default", "examples"})  # what stands there is no schema
ANY_OBJECT: JsonSchema = {"type": "object"}


@dataclass(frozen=True)
class Constraint:
    """`source` is JSON text: a schema, a list of choices, a structural tag, a regex or grammar; `options` likewise."""

    kind: ConstraintKind
    source: str
    options: str = "{}"
    param: str | None = field(default=None, compare=False)  # where in the request it stood
    refusal: bool = field(default=False, compare=False)  # the schema has a branch for refusals

    @cached_property
    def key(self) -> str:
        """Content hash; the vocabulary is that of the one model served."""
        return hashlib.sha256("\0".join((self.kind, self.options, self.source)).encode()).hexdigest()

    @property
    def schema(self) -> JsonSchema | None:
        """The JSON Schema, if that is what it is."""
        value: JsonSchema | None = json.loads(self.source) if self.kind is ConstraintKind.JSON_SCHEMA else None
        return value


def json_schema(schema: JsonSchema, options: FormworkRequest | None, param: str) -> Constraint:
    """A JSON Schema with the service's defaults: named properties in order, `", "` and `": "`."""
    _check_extensions(schema, param)
    refusal = asks_for_refusal(schema)
    schema = with_refusal(schema, param) if refusal else schema
    return Constraint(ConstraintKind.JSON_SCHEMA, as_text(schema), as_text(spelling_of(options)), param, refusal)


def in_any_spelling(made: Constraint) -> Constraint:
    """The same constraint as a reader must take it: its JSON may have been reordered and spaced anew since."""
    options: dict[str, Any] = json.loads(made.options)
    loose = {"whitespace": "json", "property_order": "any"}
    return replace(made, options=as_text({**options, **(loose if loose.keys() <= options.keys() else {})}))


def ebnf(grammar: str, options: FormworkRequest | None, param: str, syntax: str | None = None) -> Constraint:
    """A grammar in Lark or GBNF; JSON inside of it has the service's defaults."""
    if not grammar.strip():
        raise InvalidBody("a grammar must not be empty", param=param)
    return Constraint(ConstraintKind.EBNF, as_text(grammar), as_text({"syntax": syntax, **spelling_of(options)}), param)


def structural_tag(tag: dict[str, Any] | str, options: FormworkRequest | None, param: str) -> Constraint:
    """A structural tag, as a value or as JSON text."""
    value = _parsed(tag, param) if isinstance(tag, str) else tag
    if not isinstance(value, dict):
        raise InvalidBody("a structural tag is an object", param=param)
    return Constraint(ConstraintKind.STRUCTURAL_TAGS, as_text(value), as_text(spelling_of(options)), param)


def substring(quotable: str | dict[str, Any], param: str) -> Constraint:
    """A quotation from a text."""
    return Constraint(ConstraintKind.SUBSTRING, as_text(quotable), param=param)


def spelling_of(options: FormworkRequest | None) -> dict[str, Any]:
    """How JSON is spelled: the options of `grammar.JsonOptions`, with the service's defaults."""
    chosen = options or FormworkRequest()
    return {
        "property_order": chosen.property_order or "schema",
        "whitespace": chosen.whitespace or "spaced",
        "formats": chosen.formats or "narrow",
    }


def _check_extensions(schema: Any, param: str) -> None:
    """Keywords of ours that nothing would enforce where they stand: ignoring them would be a silent lie."""
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            if pointer and value.get(KEYWORD) is True:
                raise _unsupported(KEYWORD, "only the whole answer may be refused", pointer, param)
            inner = ((name, each) for name, each in value.items() if name not in _DATA)
            waiting += [(f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}", each) for name, each in inner]
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{index}", each) for index, each in enumerate(value)]


def _unsupported(keyword: str, message: str, pointer: str, param: str) -> UnsupportedConstraint:
    error = UnsupportedConstraint(message, pointer=pointer, keyword=keyword)
    error.__dict__["param"] = param
    return error


def regex(pattern: str, param: str) -> Constraint:
    if not pattern:
        raise InvalidBody("a regular expression must not be empty", param=param)
    return Constraint(ConstraintKind.REGEX, as_text(pattern), param=param)


def choice(options: list[str], param: str) -> Constraint:
    if not options:
        raise InvalidBody("a list of choices must not be empty", param=param)
    return Constraint(ConstraintKind.CHOICE, as_text(options), param=param)


def of_response_format(format_: ResponseFormat | None, options: FormworkRequest | None) -> Constraint | None:
    """OpenAI's response_format, with TGI's and others' forms of it."""
    if format_ is None or isinstance(format_, TextFormat):
        return None
    if isinstance(format_, JsonObjectFormat):
        schema = format_.schema_ if format_.schema_ is not None else format_.value
        return json_schema(ANY_OBJECT if schema is None else schema, options, "response_format")
    if isinstance(format_, SchemaFormat):
        chosen = format_.json_schema or format_.value
        where = "json_schema" if format_.json_schema else "value"
        if chosen is None:
            raise InvalidBody('json_schema is missing: {"name": …, "schema": {…}}', param="response_format.json_schema")
        return json_schema(chosen.schema_, options, f"response_format.{where}.schema")
    if isinstance(format_, JsonFormat):
        return json_schema(_schema_value(format_.value, "response_format.value"), options, "response_format.value")
    if isinstance(format_, RegexFormat):
        return regex(*_pattern(format_))
    if isinstance(format_, GrammarFormat):
        return ebnf(format_.grammar, options, "response_format.grammar", format_.syntax)
    if isinstance(format_, SubstringFormat):
        return substring(format_.value, "response_format.value")
    return structural_tag(format_.model_dump(exclude_none=True), options, "response_format")


def of_tgi(grammar: TgiGrammar | None, options: FormworkRequest | None) -> Constraint | None:
    """TGI's `parameters.grammar`."""
    param = "parameters.grammar.value"
    if grammar is None:
        return None
    if isinstance(grammar, JsonGrammar):
        return json_schema(_schema_value(grammar.value, param), options, param)
    if isinstance(grammar, RegexGrammar):
        return regex(grammar.value, param)
    return json_schema(grammar.value.schema_, options, f"{param}.schema")


def of_spellings(body: Constraints, options: FormworkRequest | None) -> Constraint | None:
    """vLLM's, SGLang's and llama.cpp's fields beside the prompt; more than one is an error."""
    found = list(_structured(body.structured_outputs, options)) if body.structured_outputs else []
    for name in ("guided_json", "json_schema"):
        if (value := getattr(body, name)) is not None:
            found.append(json_schema(_schema_value(value, name), options, name))
    for name in ("guided_regex", "regex"):
        if (value := getattr(body, name)) is not None:
            found.append(regex(value, name))
    for name in ("guided_grammar", "ebnf", "grammar"):
        if (value := getattr(body, name)) is not None:
            found.append(ebnf(value, options, name))
    if body.structural_tag is not None:
        found.append(structural_tag(body.structural_tag, options, "structural_tag"))
    if body.guided_choice is not None:
        found.append(choice(body.guided_choice, "guided_choice"))
    return only_one(found)


def only_one(found: list[Constraint]) -> Constraint | None:
    """The one constraint of a request, if any."""
    if len(found) > 1:
        names = ", ".join(str(each.param) for each in found)
        raise InvalidBody(f"a request has one constraint, this one has {len(found)}: {names}", param=found[1].param)
    return found[0] if found else None


def _structured(body: StructuredOutputs, options: FormworkRequest | None) -> list[Constraint]:
    where = "structured_outputs"
    found = []
    if body.json_ is not None:
        found.append(json_schema(_schema_value(body.json_, f"{where}.json"), options, f"{where}.json"))
    if body.json_object:
        found.append(json_schema(ANY_OBJECT, options, f"{where}.json_object"))
    if body.regex is not None:
        found.append(regex(body.regex, f"{where}.regex"))
    if body.choice is not None:
        found.append(choice(body.choice, f"{where}.choice"))
    if body.grammar is not None:
        found.append(ebnf(body.grammar, options, f"{where}.grammar"))
    if body.structural_tag is not None:
        found.append(structural_tag(body.structural_tag, options, f"{where}.structural_tag"))
    if not found:
        raise InvalidBody("give one of json, json_object: true, regex, choice, grammar, structural_tag", param=where)
    return found


def _pattern(format_: RegexFormat) -> tuple[str, str]:
    if format_.value is not None:
        return format_.value, "response_format.value"
    if format_.pattern is not None:
        return format_.pattern, "response_format.pattern"
    raise InvalidBody("the regular expression is missing", param="response_format.value")


def _schema_value(value: JsonSchema | str, param: str) -> JsonSchema:
    """Clients send a schema as a value or as a string holding one."""
    if not isinstance(value, str):
        return value
    parsed = _parsed(value, param)
    if not isinstance(parsed, dict | bool):
        raise InvalidBody("a JSON Schema is an object or a boolean", param=param)
    return parsed


def _parsed(text: str, param: str) -> Any:
    """JSON in a string, as strict as the body's own."""
    try:
        return strict_json(text.encode())
    except InvalidBody as error:
        raise InvalidBody(f"not JSON: {error.message}", param=param) from None


def as_format(constraint: Constraint) -> dict[str, Any]:
    """The constraint as a format of structural tags: what a message's grammar holds."""
    source = json.loads(constraint.source)
    match constraint.kind:
        case ConstraintKind.JSON_SCHEMA:
            return {"type": "json_schema", "json_schema": source}
        case ConstraintKind.REGEX:
            return {"type": "regex", "pattern": source}
        case ConstraintKind.CHOICE:
            return {"type": "or", "elements": [{"type": "const_string", "value": each} for each in source]}
        case ConstraintKind.EBNF:
            return {"type": "grammar", "grammar": source, "syntax": json.loads(constraint.options)["syntax"]}
        case ConstraintKind.SUBSTRING:
            wanted = {"substring_chars": source} if isinstance(source, str) else source
            return {"type": "grammar", "grammar": f"start: %regex {as_text(wanted)}", "syntax": "lark"}
    tag: dict[str, Any] = source
    return tag


def as_text(value: Any) -> str:
    """The value's JSON, as sources and options hold it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
