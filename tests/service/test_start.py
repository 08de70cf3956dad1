"""What the server says at start, and its log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.logs import JsonLines, set_up
from service.summary import summary
from tests.service.houses import served
from tests.service.processes import running


@pytest.mark.anyio
async def test_start_tells_what_was_chosen_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path, [], api_keys="secret-key", tool_call_parser="mistral") as (client, _):
        house: Any = client._transport.app.state.house  # type: ignore[attr-defined]
        house.settings._sources.update({"tool_call_parser": "the command line", "api_keys": "FORMWORK_API_KEYS"})
        lines = list(summary(house, {"--waiting-served-ratio": "nothing waits"}))
    text = "\n".join(lines)
    assert "tool calls  mistral (from the command line)" in text
    assert "reasoning   none (what the chat template shows)" in text
    assert "4,096 tokens (measured from free memory)" in text
    assert "secret-key" not in text
    assert any(line == "idle        --waiting-served-ratio changes nothing: nothing waits" for line in lines)


def test_a_log_line_can_be_json() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        info: Any = (type(error), error, error.__traceback__)
    record = logging.LogRecord("here", logging.ERROR, "file", 1, "it %s", ("failed\n",), info)
    told = json.loads(JsonLines().format(record))
    assert (told["level"], told["target"], told["message"]) == ("ERROR", "here", "it failed\n")
    assert "ValueError: broken" in told["traceback"]


def test_setting_up_the_log_replaces_what_was_there() -> None:
    before = logging.getLogger().handlers[:]
    level = logging.getLogger().level
    try:
        set_up("warning", "json")
        set_up("error", "json")
        assert [type(each.formatter) for each in logging.getLogger().handlers] == [JsonLines]
        assert logging.getLogger().level == logging.ERROR
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_on_a_unix_socket_says_so(tmp_path: Path) -> None:
    socket = tmp_path / "formwork.sock"
    with running("--uds", str(socket), "--log-format", "json", "--max-n", "3") as server:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://formwork") as client:
            assert client.get("/readyz").status_code == 200
            assert client.get("/info").json()["max_best_of"] == 3
        log = server.log.read_text("utf-8")
    assert "max_n = 3 from the command line" in log
    warned = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(line["target"] == "service.marking" for line in warned)
