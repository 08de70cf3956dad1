"""docs/clients.md and the README: what an example is said to print is what it prints."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.processes import ROOT, Running

pytestmark = pytest.mark.timeout(600)
ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(kind: str, *documents: str) -> list[tuple[str, str]]:
    """Each example of the kind, and the block below it."""
    found: list[tuple[str, str]] = []
    for document in documents:
        blocks = BLOCK.findall(Path(ROOT / document).read_text("utf-8"))
        found += [(text, after) for (said, text), (_, after) in itertools.pairwise(blocks) if said == kind]
    return found


def is_part(part: Any, whole: Any) -> bool:
    """Whether `whole` says all that `part` says."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(part) == len(whole) and all(map(is_part, part, whole))
    return bool(part == whole)


@pytest.mark.parametrize(("code", "printed"), examples("python", "docs/clients.md"))
def test_a_documented_program_prints_what_it_is_said_to(server: Running, code: str, printed: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code.replace(ADDRESS, server.url), "docs/clients.md", "exec"), {})
    assert said.getvalue() == printed


def test_the_readmes_program_prints_what_it_is_said_to(server: Running) -> None:
    ((_, code),) = [block for block in BLOCK.findall((ROOT / "README.md").read_text("utf-8")) if block[0] == "python"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code.replace(ADDRESS, server.url), "README.md", "exec"), {"__name__": "readme"})
    assert said.getvalue().strip() == code.rstrip().rsplit("#", 1)[1].strip()


@pytest.mark.parametrize(("line", "answer"), examples("sh", "docs/clients.md"))
def test_a_documented_request_is_answered_as_it_is_said_to_be(server: Running, line: str, answer: str) -> None:
    command, flag, address, *rest = shlex.split(line)
    assert (command, flag, rest[:3]) == ("curl", "-s", ["-H", "Content-Type: application/json", "-d"])
    assert address.startswith(ADDRESS)
    response = httpx.post(address.replace(ADDRESS, server.url), json=json.loads(rest[3]), timeout=120)
    assert is_part(json.loads(answer), response.json()), response.text
