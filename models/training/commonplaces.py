"""What the bundled model says again and again: `python -m models.training.commonplaces models/formwork-mini`.

What it is for: the folder's commonplaces.json, which the watermark's detector leaves out (docs/watermark.md): phrases
that many unmarked texts of a kind share. What may not enter: marked text, keys, the texts that `formwork bench
watermark` judges (its seeds are below 100; those here are above).

The idea: a phrase is common *among texts of a kind*, so each kind is counted by itself and the lists are joined; in one
heap of eight kinds a phrase of every hundredth text of one would be lost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.engine_text import DESCRIPTION, EngineWriter, Task, topics
from engine.tokenizer import Tokenizer
from models.training.data import training_examples
from models.training.model import FOLDER
from service.detection import commonplaces_of_texts
from watermark import Commonplaces, KeyRing

_SEED = 1000
_TEXTS = 2000  # of each kind: a phrase of every 500th is said four times
_TEXT: dict[str, Any] = {"type": "string"}


def _closed(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# What a small model is asked outside its trade, and where it says nearly the same every time.
_ASKED: dict[str, tuple[str, dict[str, Any] | None]] = {
    "description": ("Describe {about} as JSON.", DESCRIPTION),
    "review": ("Write a review of {about}.", _closed(rating={"enum": [1, 2, 3, 4, 5]}, review=_TEXT)),
    "report": (
        "Report on {about} as JSON.",
        _closed(headline=_TEXT, body=_TEXT, urgent={"type": "boolean"}, steps={"type": "array", "items": _TEXT}),
    ),
    "notes": ("What do you know of {about}?", {"type": "object", "additionalProperties": _TEXT}),
    "story": ("Tell me a story about {about}.", None),
}


def kinds(count: int, seed: int) -> Iterator[tuple[str, list[Task]]]:
    """What is asked, by kind."""
    for number, (name, (ask, schema)) in enumerate(_ASKED.items()):
        asked = [ask.replace("{about}", about) for about in topics(count, seed + number)]
        yield name, [Task([{"role": "user", "content": each}], schema) for each in asked]
    examples = (each for each in training_examples(seed, 1.0) if not each.tools and each.raw_prompt is None)
    trade = list(islice(examples, 2 * count))
    yield "extraction", [Task(list(each.messages), each.schema) for each in trade if each.schema is not None]
    yield "talk", [Task(list(each.messages), None) for each in trade if each.schema is None]


def counted(writer: EngineWriter, tokenizer: Tokenizer, count: int) -> Commonplaces:
    """The commonplaces of every kind, drawn at temperature 1 and, a quarter as many, at 0."""
    found: Commonplaces | None = None
    for name, tasks in kinds(count, _SEED):
        for greedy, asked in ((False, tasks), (True, tasks[: len(tasks) // 4])):
            started = time.perf_counter()
            texts = _texts(writer, asked, greedy=greedy)
            own = commonplaces_of_texts(texts, tokenizer)
            found = own if found is None else found | own
            mode = "temperature 0" if greedy else "temperature 1"
            spent = time.perf_counter() - started
            print(f"{name}, {mode}: {len(texts)} texts, {len(own.sayings)} sayings, {spent:.0f} s", flush=True)
    assert found is not None
    return found


def _texts(writer: EngineWriter, tasks: Sequence[Task], *, greedy: bool) -> list[str]:
    return [writer.text_of(each) for each in writer.written(tasks, None, _SEED, greedy=greedy)]


def main() -> None:
    """Writes the folder's file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--texts", type=int, default=_TEXTS, help="of each kind at temperature 1")
    options = parser.parse_args()
    secrets = {"unused": bytes(32)}  # nothing is marked
    writer = EngineWriter(str(options.folder), KeyRing(secrets), secrets, commonplaces="off")
    tokenizer = Tokenizer.load(options.folder)
    found = counted(writer, tokenizer, options.texts)
    (options.folder / "commonplaces.json").write_text(found.to_json(tokenizer.fingerprint) + "\n", encoding="utf-8")
    print(f"{len(found.sayings)} sayings")


if __name__ == "__main__":
    main()
