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
from engine.marking import free_choices
from engine.messages import Failure, Generate, Mark, Output, Plan, Sampling
from engine.process import build
from engine.reading import read
from engine.tokenizer import Tokenizer
from grammar import Grammar, Vocabulary, compile_json_schema
from models.training.data import held_out_extractions
from service.chat import ChatTemplate, Conversation
from watermark import Commonplaces, KeyRing, Kind

_WIDTH = 4  # the widest context of any scheme
DESCRIPTION: dict[str, Any] = {
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
class Task:
    """One request: its messages, and the schema of its answer (None: prose)."""

    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None

    @property
    def response_format(self) -> dict[str, Any] | None:
        """As the chat template takes it."""
        if self.schema is None:
            return None
        return {"type": "json_schema", "json_schema": {"name": "text", "schema": self.schema}}


@dataclass(frozen=True)
class Answer:
    """What one request gave."""

    tokens: list[int]
    promised_p: float | None
    schema: dict[str, Any] | None


class EngineWriter:
    """Documents under one schema and free prose, by the model in a folder."""

    def __init__(
        self, folder: str, ring: KeyRing, secrets: dict[str, bytes], tasks: str = "descriptions", commonplaces: str = ""
    ) -> None:
        """`commonplaces`: as `Commonplaces.of_model` takes it, for the reader and the engine's promise alike."""
        self.name = f"{Path(folder).name}, {tasks}, temperature 1 (gumbel) and 0 (kgw)"
        self._tasks = {"descriptions": _descriptions, "extractions": _extractions}[tasks]
        self._ring = ring
        self._tokenizer = Tokenizer.load(folder)
        self.commonplaces = Commonplaces.of_model(commonplaces, Path(folder), self._tokenizer.fingerprint)
        with tempfile.TemporaryDirectory() as place:
            keys = Path(place) / "keys.json"
            keys.write_text(json.dumps({"keys": {key: secret.hex() for key, secret in secrets.items()}}))
            config = EngineConfig(
                model=folder,
                watermark_key_file=str(keys),
                watermark_commonplaces=commonplaces,
                max_waiting=1 << 20,
                device="cpu",
            )
            rooms = build(config)
        self._loop = EngineLoop(rooms, time.monotonic)
        info = rooms.runner.info
        ends = list(dict.fromkeys((*info.eos_token_ids, *self._tokenizer.eos_token_ids)))
        self._vocabulary = Vocabulary(
            self._tokenizer.padded_bytes(info.vocab_size), ends, self._tokenizer.special_tokens
        )
        self._ends = frozenset(ends)
        self._grammars: dict[tuple[str, bool], Grammar] = {}
        template = self._tokenizer.chat_template
        assert template is not None, "the benchmark prompts a chat model"
        self._template = ChatTemplate(template, self._tokenizer)

    def documents(self, count: int, marking: Marking | None, seed: int, *, greedy: bool = False) -> list[Document]:
        """Answers under a schema."""
        return self.written(self._tasks(count, seed), marking, seed, greedy=greedy)

    def prose(self, count: int, marking: Marking | None, seed: int) -> list[Document]:
        """Up to 160 tokens."""
        asked = [f"Tell me a story about {about}." for about in topics(count, seed)]
        return self.written([Task([{"role": "user", "content": each}], None) for each in asked], marking, seed)

    def written(
        self, tasks: Sequence[Task], marking: Marking | None, seed: int, *, greedy: bool = False
    ) -> list[Document]:
        """The answers to any tasks; `greedy` counts where nothing marks."""
        greedy = greedy if marking is None else marking.is_greedy
        mark = None if marking is None else Mark(scheme=marking.scheme, key_id=marking.key_id)
        for number, task in enumerate(tasks):
            sampling = Sampling(max_tokens=160, seed=seed * 1_000_003 + number, temperature=0.0 if greedy else 1.0)
            self._ask(str(number), task, sampling, mark)
        return [self._document(each) for each in self._answers(tasks)]

    def agreement(self, documents: Sequence[Document]) -> tuple[int, int]:
        """How many free choices a reader of the documents' text finds again in place, and how many there are."""
        again = total = 0
        for document in documents:
            assert isinstance(document.text, Answer)
            tokens = document.text.tokens
            there = set(self._spans(self._tokenizer.encode(self._tokenizer.decode(tokens))))
            spans = list(self._spans(tokens))
            again += sum(spans[place] in there for place in document.places)
            total += len(document.places)
        return again, total

    def text_of(self, document: Document) -> str:
        """What was answered."""
        assert isinstance(document.text, Answer)
        return self.spell(document.text.tokens)

    def spell(self, tokens: Sequence[int]) -> str:
        """The text."""
        return self._tokenizer.decode(tokens)

    def _spans(self, tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where each token begins, and which it is."""
        at = 0
        for token in tokens:
            yield at, token
            at += len(self._vocabulary.tokens[token])

    def edited(self, document: Document, edit: str, seed: int) -> Document:
        """Through the text, as a reader would get it; tokens, contexts and free choices are found again from it."""
        if edit == "none":
            return document
        assert isinstance(document.text, Answer)
        rng = np.random.default_rng(seed)
        if edit == "inside ten times as much text":
            others = self._unmarked
            around = [others[i].free for i in rng.choice(len(others), 10, replace=False)]
            before, after = ([position for free in half for position in free] for half in (around[:5], around[5:]))
            return replace(document, free=(*before, *document.free, *after))
        text = _rewritten(self._tokenizer.decode(document.text.tokens), edit, rng)
        tokens = self._tokenizer.encode(text)
        if "deleted" not in edit:
            return self._document(replace(document.text, tokens=tokens, promised_p=None), any_order=True)
        # What lost words may not satisfy its schema any more: it is read as any JSON.
        found = read(tokens, [self._vocabulary.tokens[token] for token in tokens], _WIDTH).get("json", [])
        return replace(
            document, free=tuple(each.position for each in found), places=tuple(each.place for each in found)
        )

    @cached_property
    def _unmarked(self) -> list[Document]:
        return self.documents(60, None, 99)

    def _grammar(self, schema: dict[str, Any], *, any_order: bool) -> Grammar:
        """As the service compiles it, or as a detector must read it: any order, any spacing."""
        place = (json.dumps(schema), any_order)
        if place not in self._grammars:
            options = {} if any_order else {"property_order": "schema", "whitespace": "spaced"}
            self._grammars[place] = compile_json_schema(schema, self._vocabulary, **options)
        return self._grammars[place]

    def _ask(self, name: str, task: Task, sampling: Sampling, mark: Mark | None) -> None:
        grammar = None if task.schema is None else self._grammar(task.schema, any_order=False)
        if grammar is not None:
            self._loop.load_grammar(Plan(grammar.fingerprint, grammar.to_bytes()))
        conversation = Conversation(messages=task.messages, response_format=task.response_format)
        request = Generate(
            request_id=name,
            prompt=self._template.prompt(conversation),
            sampling=sampling,
            grammar=None if grammar is None else grammar.fingerprint,
            mark=mark,
        )
        for event in self._loop.generate(request):
            assert not isinstance(event, Failure), event

    def _answers(self, tasks: Sequence[Task]) -> list[Answer]:
        """Runs what was asked to its end."""
        answers = [Answer([], None, task.schema) for task in tasks]
        while not self._loop.is_idle:
            for event in self._loop.step():
                assert isinstance(event, Output), event
                number = int(event.request_id)
                said = [token.token_id for token in event.tokens if token.token_id not in self._ends]
                promised = answers[number].promised_p if event.finish is None else event.finish.mark.expected_p
                answers[number] = replace(answers[number], tokens=answers[number].tokens + said, promised_p=promised)
        return answers

    def _document(self, answer: Answer, *, any_order: bool = False) -> Document:
        grammar = None if answer.schema is None else self._grammar(answer.schema, any_order=any_order)
        choices = free_choices(grammar, answer.tokens, tuple(self._ends), _WIDTH)
        return Document(
            everything=running(answer.tokens, Kind.PROSE if grammar is None else Kind.VALUE),
            free=tuple(choice.position for choice in choices),
            places=tuple(choice.place for choice in choices),
            promised_p=answer.promised_p,
            text=answer,
        )


def _descriptions(count: int, seed: int) -> list[Task]:
    """One schema of six fields, three of them free strings, and one way to ask: texts that say the same things."""
    return [
        Task([{"role": "user", "content": f"Describe {about} as JSON."}], DESCRIPTION) for about in topics(count, seed)
    ]


def _extractions(count: int, seed: int) -> list[Task]:
    """What the bundled model was trained for: as many schemas as texts, names that it has never seen."""
    return [Task(list(each.messages), each.schema) for each in held_out_extractions(count, 50_000 + seed)]


def topics(count: int, seed: int) -> list[str]:
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
