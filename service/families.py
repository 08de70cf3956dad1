"""Which model family's spelling of tool calls and reasoning a chat template means.

What it is for: `call_form` and `thought_form`: the flag's word or what the template shows, to a value. What may not
enter: the spellings of calls themselves, which are the grammar's (grammar/rules/families.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grammar.rules.families import FORMATS, ToolFormat

CallParser = Literal[
    "auto", "hermes", "llama3_json", "mistral", "mistral_args", "deepseek_v3", "deepseek_v31", "openai", "json"
]
ThoughtParser = Literal["auto", "none", "think", "mistral", "openai"]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One family's calls, by the name that the grammar and the flag know it by."""

    name: str

    @property
    def spelling(self) -> ToolFormat:
        return FORMATS[self.name]

    @property
    def begins_by_itself(self) -> bool:
        """Whether a model that may speak freely can be seen to call instead."""
        return bool(self.spelling.trigger or self.spelling.saying)


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """One family's reasoning: `opening` … `closing`, and what is written between that and the answer."""

    name: str
    opening: str
    closing: str
    gap: str = ""


THOUGHT_FORMS = {
    form.name: form
    for form in (
        ThoughtForm("think", "<think>", "</think>", "\n\n"),
        ThoughtForm("mistral", "[THINK]", "[/THINK]"),
        ThoughtForm("openai", "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
    )
}


def call_form(parser: CallParser, template: str) -> CallForm:
    """The form that the flag names, or that the template shows."""
    return CallForm(_shown(template) if parser == "auto" else parser)


def thought_form(parser: ThoughtParser, template: str) -> ThoughtForm | None:
    """Likewise for reasoning; None: this model is not known to reason."""
    if parser != "auto":
        return THOUGHT_FORMS.get(parser)
    if "<|channel|>" in template:
        return THOUGHT_FORMS["openai"]
    return next((form for form in THOUGHT_FORMS.values() if form.closing in template and form.name != "openai"), None)


def _shown(template: str) -> str:
    if "<|channel|>" in template:
        return "openai"
    if "<｜tool▁calls▁begin｜>" in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    if "[TOOL_CALLS]" in template:
        return "mistral_args" if "[ARGS]" in template else "mistral"
    if "<tool_call>" in template and "<function=" not in template:
        return "hermes"
    if "<|python_tag|>" in template or '"parameters": ' in template:
        return "llama3_json"
    return "json"
