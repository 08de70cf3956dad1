"""`/playground`: one page, nothing from elsewhere, its script under the policy that the page is served with."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.routes.playground import PAGE
from service.settings import Settings
from tests.service.houses import served
from tests.service.processes import Running

pytestmark = pytest.mark.anyio


async def test_the_page_is_served_without_a_key_under_a_strict_policy(tmp_path: Path) -> None:
    """What the policy allows is the page's own script, and requests to this server."""
    async with served(tmp_path, [], api_keys="k") as (client, _):
        response = await client.get("/playground")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    async with served(tmp_path, [], playground=False) as (client, _):
        assert (await client.get("/playground")).status_code == 404


def test_nothing_comes_from_elsewhere_and_no_handler_stands_in_the_markup() -> None:
    """Such a handler would not run under the policy."""
    page = PAGE.read_text("utf-8")
    assert not re.search(r"(src|href)\s*=|https?://|//cdn|@import|url\(", page)
    assert not re.search(r"<[^>]+\son\w+=", page)
    assert "innerHTML" not in page


def test_every_element_that_the_script_asks_for_is_there() -> None:
    page = PAGE.read_text("utf-8")
    asked = set(re.findall(r"(?:at|say)\(\"(\w+)\"", page))
    there = set(re.findall(r"id=\"(\w+)\"", page))
    assert asked <= there
    assert there <= asked | {"seed", "key", "fields"}


async def test_the_requests_of_the_script_are_ones_that_the_server_takes(tmp_path: Path) -> None:
    """Its paths are relative, so that a proxy's prefix stands before them too."""
    paths = set(re.findall(r"post\(\"([^\"]+)\"", PAGE.read_text("utf-8")))
    assert paths == {"v1/chat/completions", "v1/grammars", "v1/watermark/detect"}
    async with served(tmp_path, []) as (client, _):
        for path in paths:
            assert (await client.post(f"/{path}", json={"nothing": 1})).status_code == 400


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript engine at hand")
def test_the_script_can_be_read(tmp_path: Path) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", PAGE.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "page.js"
    file.write_text(script)
    subprocess.run(["node", "--check", str(file)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript engine at hand")
def test_the_page_shows_an_answer_its_fields_and_its_watermark(server: Running) -> None:
    """Against a real server, in node, on a page of stubs: there is no browser here."""
    harness = Path(__file__).with_name("page_in_node.mjs")
    done = subprocess.run(
        ["node", str(harness), str(PAGE), server.url], capture_output=True, text=True, check=True, timeout=120
    )
    told = json.loads(done.stdout)
    answer = json.loads(told["answer"])
    assert [row[:2] for row in told["fields"]] == [[f"/{name}", json.dumps(value)] for name, value in answer.items()]
    assert len(told["titles"]) == len(told["colours"])
    assert all("legal mass" in title for title in told["titles"])
    assert "finish: stop" in told["note"]
    assert "least budget" in told["explanation"]
    assert "free choices scored" in told["verdict"]
    assert told["picture"].startswith('<div class="wm">')
    assert "max_tokens" in told["refused"]


def test_it_is_on_unless_said_otherwise() -> None:
    assert Settings().playground
