"""The JSON-Schema-Test-Suite as a ratchet: each draft's outcome is recorded, worse fails, better is to be recorded.

A group (one schema and its instances) is right, refused (with a documented error) or wrong. No invalid instance may be
accepted, whatever is recorded. Instances are fed byte by byte over the toy vocabulary.
Record with: python -m tests.grammar.test_conformance
"""

import json
import lzma
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from grammar import GrammarError, compile_json_schema
from tests.grammar.walking import TOKENS, VOCABULARY

DATA = Path(__file__).parent / "data"
RECORD = DATA / "conformance.json"
DIALECTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
BYTES = [TOKENS.index(bytes([byte])) for byte in range(256)]


@cache
def suite() -> dict[str, Any]:
    """The suite's files by draft, and its remote documents."""
    found: dict[str, Any] = json.loads(lzma.decompress((DATA / "json-schema-test-suite.json.xz").read_bytes()))
    return found


@cache
def documents() -> dict[str, Any]:
    """What the suite serves at localhost:1234."""
    return {f"http://localhost:1234/{name}": document for name, document in suite()["remotes"].items()}


def accepted(matcher: Any, text: str) -> bool:
    """All bytes taken, and complete."""
    return all(matcher.advance(BYTES[byte]) for byte in text.encode()) and matcher.is_accepting


def judged(draft: str, group: dict[str, Any], *, formats: str) -> tuple[str, list[str]]:
    """The outcome of a group and the invalid instances that it let through."""
    schema = group["schema"]
    if isinstance(schema, dict) and "$schema" not in schema:
        schema = {"$schema": DIALECTS[draft], **schema}
    try:
        grammar = compile_json_schema(schema, VOCABULARY, formats=formats, documents=documents())
    except GrammarError:
        return "refused", []
    texts = [(test, json.dumps(test["data"], ensure_ascii=False)) for test in group["tests"]]
    found = [(test, accepted(grammar.matcher(), text)) for test, text in texts]
    wrong = any(test["valid"] is not accepted for test, accepted in found)
    through = [test["description"] for test, accepted in found if accepted and not test["valid"]]
    return "wrong" if wrong else "right", through


def groups(draft: str, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The required files, or those of optional/format."""
    for name, content in suite()[draft].items():
        folder = name.rpartition("/")[0]
        if folder == part:
            yield from ((name, group) for group in content)


def outcomes(draft: str, part: str) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Counts per file, and everything invalid that was accepted."""
    counts: dict[str, Counter[str]] = {}
    through: list[str] = []
    for name, group in groups(draft, part):
        outcome, missed = judged(draft, group, formats="assert" if part else "annotation")
        counts.setdefault(name, Counter())[outcome] += 1
        through += [f"{name}: {group['description']}: {each}" for each in missed]
    return {name: dict(sorted(count.items())) for name, count in counts.items()}, through


PARTS = [(draft, part) for draft in DIALECTS for part in ("", "optional/format")]


@pytest.mark.parametrize(("draft", "part"), PARTS)
def test_the_suite_comes_out_as_recorded_or_better(draft: str, part: str) -> None:
    """More right groups than recorded are better; no group is wrong, and nothing invalid is accepted."""
    recorded = json.loads(RECORD.read_text())[f"{draft} {part}".strip()]
    found, through = outcomes(draft, part)
    assert through == []
    worse = {
        name: (recorded[name], found[name])
        for name in recorded
        if found[name].get("right", 0) < recorded[name].get("right", 0) or "wrong" in found[name]
    }
    assert worse == {}, "recorded, found"


if __name__ == "__main__":
    everything = {f"{draft} {part}".strip(): outcomes(draft, part) for draft, part in PARTS}
    RECORD.write_text(json.dumps({name: counts for name, (counts, _) in everything.items()}, indent=1) + "\n")
    for name, (counts, through) in everything.items():
        total: Counter[str] = Counter()
        for count in counts.values():
            total.update(count)
        print(name, dict(total), "let through:", through)  # noqa: T201
