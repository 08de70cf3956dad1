"""What the documents say of the repository is true of the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*/*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def name_of(document: Path) -> str:
    """How a test names it."""
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    """A reader who follows a link finds the file."""
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_make_target_named_exists(document: Path) -> None:
    """A command that a document gives can be typed."""
    named = set(re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8")))
    assert named <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_source_file_named_exists(document: Path) -> None:
    """A path in backquotes that begins with a room is a file or folder of it."""
    text = document.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:service|schemas|engine|grammar|watermark|models|benchmarks|tests)/[\w/.-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_package_that_the_project_needs_is_defended() -> None:
    """docs/architecture.md says what each dependency is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## What we lean on")[1]
    names = [re.split(r"[\[<>=;]", requirement)[0] for requirement in project["dependencies"]]
    assert [name for name in names if name not in section] == []
