"""Text of a real model for the watermark benchmark: the engine's own loop in this process, under a real schema.

No HTTP and no second process, so that a run can mark with ten keys and read each token's ids; everything between the
prompt's tokens and the emitted ones is what the service runs.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marked_text import Document, Marking, running
from engine.config import EngineConfig
from engine.loop import EngineLoop
from engine.marking import is_choice, standing
from engine.messages import Failure, Generate, Mark, Output, Plan, Sampling
from engine.process import build
from engine.tokenizer import Tokenizer
from grammar import Grammar, Vocabulary, compile_json_schema
from service.chat import ChatTemplate, Conversation
from watermark import KeyRing, Kind, Position

_WIDTH = 4  # the widest context of any scheme
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "kind": {"enum": ["letter", "report", "story"]},
        "pages": {"type": "integer", "minimum": 1, "maximum": 900},
        "summary": {"type": "string"},
        "remark": {"type": "string"},
        "public": {"type": "boolean"},
    },
    "required": ["title", "kind", "pages", "summary", "remark", "public"],
    "additionalProperties": False,
}
_SUBJECTS = ("river", "orchard", "harbour", "clock", "letter", "garden", "bridge", "winter", "market", "piano", "map")
_MANNERS = ("a quiet", "an old", "a strange", "a bright", "a forgotten", "a busy", "a distant", "a broken", "a small")


@dataclass(frozen=True)
class Answer:
    """What one request gave."""

    tokens: list[int]
    promised_p: float | None


class EngineWriter:
    """Documents under one schema and free prose, by the model in a folder."""

    def __init__(self, folder: str, ring: KeyRing, secrets: dict[str, bytes]) -> None:
        self.name = f"{Path(folder).name}, temperature 1 (gumbel) and 0 (kgw)"
        self._ring = ring
        self._tokenizer = Tokenizer.load(folder)
        with tempfile.TemporaryDirectory() as place:
            keys = Path(place) / "keys.json"
            keys.write_text(json.dumps({"keys": {key: secret.hex() for key, secret in secrets.items()}}))
            config = EngineConfig(model=folder, watermark_key_file=str(keys), max_waiting=1 << 20, device="cpu")
            rooms = build(config)
        self._loop = EngineLoop(rooms, time.monotonic)
        info = rooms.runner.info
        ends = list(dict.fromkeys((*info.eos_token_ids, *self._tokenizer.eos_token_ids)))
        self._vocabulary = Vocabulary(self._tokenizer.padded_bytes(info.vocab_size), ends)
        self._ends = frozenset(ends)
        self._made = compile_json_schema(_SCHEMA, self._vocabulary, property_order="schema", whitespace="spaced")
        self._read = compile_json_schema(_SCHEMA, self._vocabulary)  # any order, any spacing: as a detector must
        self._loop.load_grammar(Plan(self._made.fingerprint, self._made.to_bytes()))
        template = self._tokenizer.chat_template
        assert template is not None, "the benchmark prompts a chat model"
        self._template = ChatTemplate(template, self._tokenizer)

    def documents(self, count: int, marking: Marking | None, seed: int, *, greedy: bool = False) -> list[Document]:
        """Six fields, three of them free strings."""
        wanted = {"type": "json_schema", "json_schema": {"name": "text", "schema": _SCHEMA}}
        prompts = [self._prompt(f"Describe {about} as JSON.", wanted) for about in _topics(count, seed)]
        answers = self._answers(prompts, marking, seed, greedy=greedy, constrained=True)
        return [self._document(each, self._made) for each in answers]

    def prose(self, count: int, marking: Marking | None, seed: int) -> list[Document]:
        """Up to 160 tokens."""
        prompts = [self._prompt(f"Tell me a story about {about}.", None) for about in _topics(count, seed)]
        answers = self._answers(prompts, marking, seed, greedy=False, constrained=False)
        return [self._document(each, None) for each in answers]

    def edited(self, document: Document, edit: str, seed: int) -> Document:
        """Through the text, as a reader would get it; tokens, contexts and free choices are found again from it."""
        if edit == "none":
            return document
        assert isinstance(document.text, str)
        rng = np.random.default_rng(seed)
        if edit == "inside ten times as much text":
            others = self._unmarked
            around = [others[i].free for i in rng.choice(len(others), 10, replace=False)]
            before, after = ([position for free in half for position in free] for half in (around[:5], around[5:]))
            return replace(document, free=(*before, *document.free, *after))
        return self._document(Answer(self._tokenizer.encode(_rewritten(document.text, edit, rng)), None), self._read)

    @cached_property
    def _unmarked(self) -> list[Document]:
        return self.documents(60, None, 99)

    def _prompt(self, content: str, wanted: dict[str, Any] | None) -> list[int]:
        return self._template.prompt(
            Conversation(messages=[{"role": "user", "content": content}], response_format=wanted)
        )

    def _answers(
        self, prompts: Sequence[list[int]], marking: Marking | None, seed: int, *, greedy: bool, constrained: bool
    ) -> list[Answer]:
        is_greedy = greedy if marking is None else marking.is_greedy
        for number, prompt in enumerate(prompts):
            sampling = Sampling(max_tokens=160, seed=seed * 1_000_003 + number, temperature=0.0 if is_greedy else 1.0)
            request = Generate(
                request_id=str(number),
                prompt=prompt,
                sampling=sampling,
                grammar=self._made.fingerprint if constrained else None,
                mark=None if marking is None else Mark(scheme=marking.scheme, key_id=marking.key_id),
            )
            for event in self._loop.generate(request):
                assert not isinstance(event, Failure), event
        answers = [Answer([], None)] * len(prompts)
        tokens: list[list[int]] = [[] for _ in prompts]
        while not self._loop.is_idle:
            for event in self._loop.step():
                assert isinstance(event, Output), event
                number = int(event.request_id)
                tokens[number] += [token.token_id for token in event.tokens if token.token_id not in self._ends]
                if event.finish is not None:
                    answers[number] = Answer(tokens[number], event.finish.mark.expected_p)
        return answers

    def _document(self, answer: Answer, grammar: Grammar | None) -> Document:
        placed = list(_free_choices(grammar, answer.tokens, self._vocabulary.words))
        return Document(
            everything=running(answer.tokens, Kind.PROSE if grammar is None else Kind.VALUE),
            free=tuple(position for _, position in placed),
            places=tuple(place for place, _ in placed),
            promised_p=answer.promised_p,
            text=self._tokenizer.decode(answer.tokens),
        )


def _free_choices(grammar: Grammar | None, tokens: Sequence[int], words: int) -> Iterator[tuple[int, Position]]:
    """As `engine.marking.eligible_positions`, with where each stands; `words` is the length of a mask row."""
    matcher = None if grammar is None else grammar.matcher()
    row = np.zeros(words, np.int32)
    for place, token in enumerate(tokens):
        found = standing(matcher, tokens[max(0, place - _WIDTH) : place], _WIDTH)
        if matcher is not None:
            matcher.fill_mask(row)
            if not is_choice(row):
                found = None
            if not matcher.advance(token):
                return
        if found is not None:
            kind, context = found
            yield place, Position(token, tuple(context), kind)


def _topics(count: int, seed: int) -> list[str]:
    """As many different subjects as there are numbers."""
    rng = np.random.default_rng(seed)
    pairs = zip(rng.choice(_MANNERS, count), rng.choice(_SUBJECTS, count), strict=True)
    return [f"{manner} {subject} number {rng.integers(1, 10_000)}" for manner, subject in pairs]


def _rewritten(text: str, edit: str, rng: np.random.Generator) -> str:
    """The JSON text after an edit; what is no JSON object (a cut answer) is edited as words."""
    value = json.loads(text)
    if edit == "re-serialised compactly":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if edit == "pretty-printed":
        return json.dumps(value, indent=2, ensure_ascii=False)
    if edit == "fields reordered":
        keys = list(value)
        return json.dumps({keys[i]: value[keys[i]] for i in rng.permutation(len(keys))}, ensure_ascii=False)
    if "deleted" in edit:
        gone = float(edit.split(maxsplit=1)[0]) / 100
        kept = {
            key: " ".join(word for word in inner.split(" ") if rng.random() >= gone)
            if isinstance(inner, str) and key != "kind"
            else inner
            for key, inner in value.items()
        }
        return json.dumps(kept, ensure_ascii=False)
    return text
