"""How model families spell tool calls and reasoning: one table, and which line of it a chat template means.

What it is for: `CallForm` and `ThoughtForm`, found by `call_form` and `thought_form`. What may not enter: running
anything, OpenAI's shapes.

The idea: a call is text of a fixed form around a name and the JSON of its arguments. The fixed parts are written by the
service, token for token as the family's template writes them (many are special tokens, which no byte grammar can
spell); only name and arguments are drawn, under a grammar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CallParser = Literal[
    "auto", "hermes", "llama3_json", "mistral", "mistral_args", "deepseek_v3", "deepseek_v31", "openai", "json"
]
ThoughtParser = Literal["auto", "none", "think", "mistral", "openai"]


@dataclass(frozen=True, slots=True)
class CallForm:
    """One family's calls. A call is one JSON object, or (`split`) a bare name, `split`, and the arguments."""

    name: str
    trigger: str | None  # free text that contains it has begun a call; None: no call begins by itself
    opening: str  # written before the first call, in place of the trigger
    closing: str = ""  # written after each call before another
    again: str | None = None  # written before a further call; None: one call only
    end: str = ""  # what the family writes after the last call in place of `again`
    arguments_key: str = "arguments"
    split: str | None = None
    prefix: str = ""  # of a bare name
    talk: tuple[str, str] | None = None  # the word drawn in place of a name to speak instead, and what follows it


@dataclass(frozen=True, slots=True)
class ThoughtForm:
    """One family's reasoning: `opening` … `closing`, then `after`, then `answer` before what is no call."""

    name: str
    opening: str
    closing: str
    after: str = ""
    answer: str = ""


HERMES = CallForm("hermes", "<tool_call>", "<tool_call>\n", "\n</tool_call>", "\n<tool_call>\n")
PLAIN_JSON = CallForm("json", None, "")
CALL_FORMS = {
    form.name: form
    for form in (
        HERMES,
        # Llama 3 writes nothing around the object; its own beginning is what gives it away.
        CallForm("llama3_json", '{"name": "', "", arguments_key="parameters"),
        CallForm("mistral", "[TOOL_CALLS]", "[TOOL_CALLS][", "", ", ", "]"),
        CallForm("mistral_args", "[TOOL_CALLS]", "[TOOL_CALLS]", "", "[TOOL_CALLS]", split="[ARGS]"),
        CallForm(
            "deepseek_v3",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n```<｜tool▁call▁end｜>",
            "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "<｜tool▁calls▁end｜>",
            split="\n```json\n",
        ),
        CallForm(
            "deepseek_v31",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁calls▁end｜>",
            split="<｜tool▁sep｜>",
        ),
        # gpt-oss: one call a turn; the turn's header says whether it is an answer or a call, and of which function.
        CallForm(
            "openai",
            None,
            "<|channel|>",
            split=" <|constrain|>json<|message|>",
            prefix="commentary to=functions.",
            talk=("final", "<|message|>"),
        ),
        PLAIN_JSON,
    )
}
THOUGHT_FORMS = {
    form.name: form
    for form in (
        ThoughtForm("think", "<think>", "</think>", "\n\n"),
        ThoughtForm("mistral", "[THINK]", "[/THINK]"),
        ThoughtForm(
            "openai",
            "<|channel|>analysis<|message|>",
            "<|end|>",
            "<|start|>assistant",
            "<|channel|>final<|message|>",
        ),
    )
}


def call_form(parser: CallParser, template: str) -> CallForm:
    """The form that the flag names, or that the template shows."""
    return CALL_FORMS[_shown(template) if parser == "auto" else parser]


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
